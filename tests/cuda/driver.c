/* A CUDA driver without a GPU: libcuda.so for machines that have none.
 *
 * It knows what CubeCL's CUDA runtime calls and nothing else. Memory is the host's; kernels are assembled by `ptxas`, as a driver
 * does, and their launches are held against the device's limits. Streams do what they are given as late as they may: not before
 * someone waits for it. While launches are recorded for a graph, what a driver refuses then is refused: to wait, to allocate, to load
 * a module, to depend on what is not recorded.
 *
 * Kernels are run by the CPU where CUDA_STUB_KERNELS is given (ptx.py, device.h), some thousand times slower than by a GPU, in memory
 * that is NaN until something is written there; what a graph recorded is run again at each replay. Otherwise none is, memory is zero
 * and reads back as zero, and everything but the values is tried: NVRTC on every kernel, registers and shared memory, allocations,
 * copies, the whole host side.
 *
 *   CUDA_STUB_LOG      a file: a line of tab-separated values for each module loaded, each new form of launch and each launch that
 *                      is recorded, one where NVRTC is used or a graph recorded, one for the most memory in use, the count of
 *                      launches and that of replays
 *   CUDA_STUB_PTXAS    the assembler; without it modules are taken as they are
 *   CUDA_STUB_RUN      the command that translates a kernel: ptx.py
 *   CUDA_STUB_KERNELS  a folder for translated kernels, which are kept
 *   CUDA_STUB_COUNT    what each launch of a recording takes goes to the log at the first replay (scripts/count_kernels.py)
 *   CUDA_STUB_REVERSED blocks, warps and lanes take turns in the opposite order
 *   CUDA_STUB_ARCH     compute capability, 90 unless given
 *   CUDA_STUB_SPOIL    so many recordings, from the first on, are refused
 *   CUDA_STUB_WAIT     microseconds that waiting for kernels takes, 20000 unless given
 *   CUDA_STUB_MEMORY   bytes of the device, 80e9 unless given; more is out of memory
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launch.h"

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_PTX = 218, NOT_FOUND = 500, OUT_OF_RESOURCES = 701, NOT_SUPPORTED = 801 };
enum { NOT_WHILE_RECORDING = 900, SPOILT = 901, ISOLATED = 905 };
enum { MOST_THREADS = 1024, MOST_SHARED = 227 * 1024, FREE_SHARED = 48 * 1024, REGISTERS = 65536 };

typedef struct Kernel {
    int module, registers, fixed_shared, allowed_shared;
    char entry[256];
    uint64_t seen[64]; /* forms of launch already noted */
    int forms;
    int parameters;
    const int *sizes;
    int (*run)(const Launch *);
} Kernel;

/* Every allocation begins with where it came from and its size, on 512 bytes of its own. */
typedef struct {
    void *base;
    size_t size;
} Head;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t in_use, most_used;
static int modules;
static long launches;

static double number(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text ? atof(text) : otherwise;
}

static int arch(void) { return (int)number("CUDA_STUB_ARCH", 90); }

static void note(const char *line) {
    const char *path = getenv("CUDA_STUB_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        fputs(line, file);
        fclose(file);
    }
}

/* The device */

int cuInit(unsigned flags) { return OK; }
int cuDriverGetVersion(int *version) { return *version = 13000, OK; }
int cuDeviceGetCount(int *count) { return *count = 1, OK; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal == 0 ? OK : NO_DEVICE; }
int cuDeviceGetName(char *name, int length, int device) { return snprintf(name, length, "stub of sm_%d", arch()), OK; }
int cuDeviceGetPCIBusId(char *id, int length, int device) { return snprintf(id, length, "0000:00:00.0"), OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = (size_t)number("CUDA_STUB_MEMORY", 80e9), OK; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: case 2: case 3: *value = MOST_THREADS; break;
    case 4: *value = 64; break;
    case 5: *value = INT32_MAX; break;
    case 6: case 7: *value = 65535; break;
    case 8: *value = FREE_SHARED; break;
    case 10: *value = 32; break;
    case 16: *value = 132; break;
    case 75: *value = arch() / 10; break;
    case 76: *value = arch() % 10; break;
    case 97: *value = MOST_SHARED; break;
    case 115: *value = 1; break;
    default: *value = 0;
    }
    return OK;
}

static int context; /* any address will do */

int cuDevicePrimaryCtxRetain(void **out, int device) { return *out = &context, OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
int cuCtxSetCurrent(void *ctx) { return OK; }
int cuCtxGetCurrent(void **out) { return *out = &context, OK; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, OK; }

/* Streams, and graphs, which are recordings of what one stream is given. One is made at a time. */

typedef struct Stream Stream;
typedef struct Graph Graph;

/* What a stream is given: one of these. */
typedef struct Node {
    struct Node *next;
    Kernel *kernel; /* to launch */
    int counted; /* is to be */
    Launch launch;
    void *to; /* to copy to */
    const void *from;
    void *kept; /* where it is copied from, if that is the node's own */
    size_t size;
    Graph *graph; /* to replay */
    void *memory; /* to give back */
    Stream *other; /* to wait for */
    uint64_t until;
} Node;

struct Graph {
    Node *first, **end;
};

struct Stream {
    Node *first, **end;
    uint64_t given, done;
    Stream *before; /* all of them, from the last on */
};

typedef struct {
    Stream *stream;
    uint64_t number;
    int recorded; /* in a graph */
} Event;

static Stream *streams;
static Stream *recorded; /* the stream that is */
static Graph *graph;
static int recordings, spoilt, kernels, copies, launched;
static long replays;
static pthread_mutex_t work = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP; /* on streams and graphs */

static int running(void) { return getenv("CUDA_STUB_KERNELS") != NULL; }
static void give_back(void *memory);

static void append(Node ***end, Node node) {
    Node *kept = malloc(sizeof *kept);
    *kept = node;
    **end = kept;
    *end = &kept->next;
}

static void give(Stream *stream, Node node) {
    pthread_mutex_lock(&work);
    if (stream == recorded) {
        append(&graph->end, node);
    } else {
        append(&stream->end, node);
        stream->given++;
    }
    pthread_mutex_unlock(&work);
}

static void drain(Stream *stream, uint64_t until);

static void run(Node *node) {
    Launch launch = node->launch;
    Counts counts = {0};
    char line[1024];
    launch.counts = &counts;
    node->kernel->run(&launch);
    if (!node->counted) return;
    node->counted = 0; /* at the first replay only */
    snprintf(line, sizeof line, "count\t%s\t%u %u %u\t%u %u %u\t%lu\t%lu\t%lu\t%lu\t%lu\n", node->kernel->entry, launch.grid[0], launch.grid[1],
             launch.grid[2], launch.block[0], launch.block[1], launch.block[2], counts.instructions, counts.longest, counts.requested,
             counts.read, counts.written);
    note(line);
}

static void perform(Node *node) {
    if (node->kernel) run(node);
    if (node->to) memcpy(node->to, node->from, node->size);
    if (node->memory) give_back(node->memory);
    if (node->other) drain(node->other, node->until);
    for (Node *of_graph = node->graph ? node->graph->first : NULL; of_graph; of_graph = of_graph->next) perform(of_graph);
}

static void drain(Stream *stream, uint64_t until) {
    pthread_mutex_lock(&work);
    while (stream->done < until && stream->first) {
        Node *node = stream->first;
        stream->first = node->next;
        if (!stream->first) stream->end = &stream->first;
        stream->done++;
        perform(node);
        for (int i = 0; node->kernel && i < node->kernel->parameters; i++) free(node->launch.parameters[i]);
        free(node->launch.parameters);
        free(node->kept);
        free(node);
    }
    pthread_mutex_unlock(&work);
}

static void drain_all(void) {
    pthread_mutex_lock(&work);
    for (Stream *stream = streams; stream; stream = stream->before) drain(stream, stream->given);
    pthread_mutex_unlock(&work);
}

/* For what a driver does not do while a stream of any thread records, and spoils the recording. */
static int refused_while_recording(const char *what) {
    if (!recorded) return OK;
    char line[320];
    spoilt = 1;
    snprintf(line, sizeof line, "spoilt\t%s\n", what);
    note(line);
    return NOT_WHILE_RECORDING;
}

int cuStreamBeginCapture_v2(Stream *stream, int mode) {
    if (recorded) return INVALID_VALUE;
    recorded = stream;
    graph = calloc(1, sizeof *graph);
    graph->end = &graph->first;
    kernels = copies = 0;
    spoilt = recordings++ < (int)number("CUDA_STUB_SPOIL", 0);
    return OK;
}

int cuStreamEndCapture(Stream *stream, void **out) {
    char line[64];
    if (!recorded || recorded != stream) return INVALID_VALUE;
    recorded = NULL;
    snprintf(line, sizeof line, "graph\t%d launches\t%d copies\t%s\n", kernels, copies, spoilt ? "REFUSED" : "good");
    note(line);
    return *out = spoilt ? NULL : graph, spoilt ? SPOILT : OK;
}

int cuGraphGetNodes(void *g, void **out, size_t *count) { return *count = 0, OK; } /* it is asked for those of memory */
int cuGraphNodeGetType(void *node, int *type) { return *type = 0, OK; }
int cuGraphInstantiateWithFlags(void **out, void *g, unsigned long long flags) { return *out = g, OK; }
int cuGraphUpload(void *g, void *s) { return OK; }
int cuGraphDestroy(void *g) { return OK; }
int cuGraphExecDestroy(void *g) { return drain_all(), OK; }

int cuGraphLaunch(Graph *replayed, Stream *stream) {
    give(stream, (Node){.graph = replayed});
    return __atomic_add_fetch(&replays, 1, __ATOMIC_SEQ_CST), launched = 1, OK;
}

/* Whoever waits for kernels waits 20 ms, long enough for CubeCL, which repeats a kernel until its time can be told. Where the host's
 * own time is asked for, once kernels are kept, that is to be less: CubeCL waits each time that some megabytes have been brought to
 * the device. */
static int wait_for(Stream *stream, uint64_t until, const char *what) {
    if (recorded) return refused_while_recording(what);
    drain(stream, until);
    if (__atomic_exchange_n(&launched, 0, __ATOMIC_SEQ_CST)) usleep((unsigned)number("CUDA_STUB_WAIT", 20000));
    return OK;
}

int cuStreamCreate(Stream **out, unsigned flags) {
    Stream *made = calloc(1, sizeof *made);
    made->end = &made->first;
    pthread_mutex_lock(&work);
    made->before = streams;
    streams = made;
    pthread_mutex_unlock(&work);
    return *out = made, OK;
}

int cuStreamCreateWithPriority(Stream **out, unsigned flags, int priority) { return cuStreamCreate(out, flags); }
int cuStreamSynchronize(Stream *stream) { return wait_for(stream, stream->given, "cuStreamSynchronize"); }
int cuStreamDestroy_v2(Stream *stream) { return drain(stream, stream->given), OK; }

int cuEventCreate(Event **out, unsigned flags) { return *out = calloc(1, sizeof **out), OK; }
int cuEventRecord(Event *event, Stream *stream) { return *event = (Event){stream, stream->given, stream == recorded}, OK; }
int cuEventDestroy_v2(Event *event) { return free(event), OK; }
int cuEventElapsedTime(float *ms, void *a, void *b) { return *ms = 20, OK; }
int cuEventElapsedTime_v2(float *ms, void *a, void *b) { return cuEventElapsedTime(ms, a, b); }

int cuEventSynchronize(Event *event) {
    return event->stream ? wait_for(event->stream, event->number, "cuEventSynchronize") : OK;
}

int cuEventQuery(Event *event) {
    if (event->stream && !recorded) drain(event->stream, event->number);
    return OK;
}

int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    if (!event->stream || event->stream == stream) return OK;
    if (stream == recorded || event->recorded) return refused_while_recording("cuStreamWaitEvent"), ISOLATED;
    return give(stream, (Node){.other = event->stream, .until = event->number}), OK;
}

/* Memory */

typedef struct Host {
    char *start;
    size_t size;
    struct Host *before;
} Host;

static Host *pinned; /* the host's memory that was taken through the driver */

static int take(void **out, size_t size, int counted) {
    if (recorded) return refused_while_recording("memory");
    size_t all = (size_t)number("CUDA_STUB_MEMORY", 80e9);
    if (counted && in_use + size > all) drain_all();
    pthread_mutex_lock(&lock);
    void *base = counted && in_use + size > all ? NULL : running() ? malloc(size + 1024) : calloc(size + 1024, 1);
    if (base && running()) memset(base, 0xff, size + 1024);
    if (base && counted) {
        in_use += size;
        if (in_use > most_used) most_used = in_use;
    }
    pthread_mutex_unlock(&lock);
    if (!base) return OUT_OF_MEMORY;
    char *start = (char *)(((uintptr_t)base + sizeof(Head) + 511) & ~(uintptr_t)511);
    ((Head *)start)[-1] = (Head){base, counted ? size : 0};
    return *out = start, OK;
}

static void give_back(void *start) {
    Head head = ((Head *)start)[-1];
    pthread_mutex_lock(&lock);
    in_use -= head.size;
    pthread_mutex_unlock(&lock);
    free(head.base);
}

int cuMemAlloc_v2(void **out, size_t size) { return take(out, size, 1); }
int cuMemAllocAsync(void **out, size_t size, void *s) { return take(out, size, 1); }
int cuMemFree_v2(void *start) {
    if (recorded) return refused_while_recording("cuMemFree");
    return drain_all(), start ? give_back(start) : (void)0, OK;
}
int cuMemFreeAsync(void *start, Stream *stream) { return start ? give(stream, (Node){.memory = start}) : (void)0, OK; }

int cuMemAllocHost_v2(void **out, size_t size) {
    int status = take(out, size, 0);
    if (status != OK) return status;
    Host *host = malloc(sizeof *host);
    pthread_mutex_lock(&lock);
    *host = (Host){*out, size, pinned};
    pinned = host;
    pthread_mutex_unlock(&lock);
    return OK;
}

int cuMemFreeHost(void *start) {
    if (recorded) return refused_while_recording("cuMemFreeHost");
    drain_all();
    pthread_mutex_lock(&lock);
    for (Host *host = pinned; host; host = host->before) {
        if (host->start == start) host->size = 0;
    }
    pthread_mutex_unlock(&lock);
    return give_back(start), OK;
}

static int is_pinned(const char *place) {
    pthread_mutex_lock(&lock);
    Host *host = pinned;
    while (host && !(place >= host->start && place < host->start + host->size)) host = host->before;
    pthread_mutex_unlock(&lock);
    return host != NULL;
}

static int copy(void *to, const void *from, size_t size, Stream *stream) {
    copies += stream == recorded;
    return give(stream, (Node){.to = to, .from = from, .size = size}), OK;
}

/* Memory that the driver did not give out can be written over as soon as the call returns, and is to be read then. */

int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, Stream *stream) {
    if (is_pinned(from)) return copy(to, from, size, stream);
    void *kept = memcpy(malloc(size), from, size);
    copies += stream == recorded;
    return give(stream, (Node){.to = to, .from = kept, .kept = kept, .size = size}), OK;
}

int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, Stream *stream) {
    /* What kernels came to where none was run: zero, whatever lay there before. */
    if (!running()) return memset(to, 0, size), OK;
    copy(to, from, size, stream);
    if (!is_pinned(to)) drain(stream, stream->given);
    return OK;
}

int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t size, Stream *stream) { return copy(to, from, size, stream); }

typedef struct {
    size_t x, y;
    int type;
    void *host;
    void *device;
    void *array;
    size_t pitch;
} Side;

typedef struct {
    Side from, to;
    size_t width, height;
} Copy2D;

static char *begins(const Side *side) {
    char *base = side->type == 1 ? side->host : side->device;
    return base + side->y * side->pitch + side->x;
}

int cuMemcpy2DAsync_v2(const Copy2D *rows, Stream *stream) {
    for (size_t row = 0; row < rows->height; row++) {
        char *to = begins(&rows->to) + row * rows->to.pitch;
        const char *from = begins(&rows->from) + row * rows->from.pitch;
        if (rows->to.type == 1) cuMemcpyDtoHAsync_v2(to, from, rows->width, stream);
        else if (rows->from.type == 1) cuMemcpyHtoDAsync_v2(to, from, rows->width, stream);
        else copy(to, from, rows->width, stream);
    }
    return OK;
}

/* Kernels */

/* What `ptxas -v` says of a module. Without an assembler nothing is known, and nothing refused. */
static int assemble(const char *ptx, Kernel *kernel, int *spilled, double *seconds) {
    const char *ptxas = getenv("CUDA_STUB_PTXAS");
    if (!ptxas) return OK;
    char path[] = "/tmp/cuda-stub-XXXXXX", command[4096], line[4096];
    int file = mkstemp(path);
    if (file < 0 || write(file, ptx, strlen(ptx)) != (ssize_t)strlen(ptx)) return INVALID_PTX;
    close(file);
    struct timespec begun, done;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    snprintf(command, sizeof command, "'%s' -v -arch=sm_%d%s -o /dev/null %s 2>&1", ptxas, arch(), arch() >= 90 ? "a" : "", path);
    FILE *said = popen(command, "r");
    while (said && fgets(line, sizeof line, said)) {
        char *used = strstr(line, "Used "), *shared = strstr(line, " bytes smem"), *spill = strstr(line, " bytes spill stores");
        if (used) kernel->registers = atoi(used + 5);
        for (; shared && shared > line && shared[-1] != ' '; shared--) {}
        if (shared) kernel->fixed_shared = atoi(shared);
        for (; spill && spill > line && spill[-1] != ' '; spill--) {}
        if (spill) *spilled = atoi(spill);
        if (strstr(line, "error") || strstr(line, "fatal")) fprintf(stderr, "ptxas: %s", line);
    }
    int status = said ? pclose(said) : -1;
    clock_gettime(CLOCK_MONOTONIC, &done);
    *seconds = done.tv_sec - begun.tv_sec + (done.tv_nsec - begun.tv_nsec) / 1e9;
    unlink(path);
    return status == 0 ? OK : INVALID_PTX;
}

/* Makes a kernel one that the CPU runs. */
static int translate(const char *ptx, Kernel *kernel) {
    const char *folder = getenv("CUDA_STUB_KERNELS"), *command = getenv("CUDA_STUB_RUN");
    char path[1024], library[1024], line[8192];
    uint64_t hash = 14695981039346656037ull;
    if (!folder) return OK;
    for (const char *at = ptx; *at; at++) hash = (hash ^ (unsigned char)*at) * 1099511628211ull;
    snprintf(library, sizeof library, "%s/%016llx%s.so", folder, (unsigned long long)hash, getenv("CUDA_STUB_COUNT") ? "-counted" : "");
    if (access(library, R_OK) != 0) {
        snprintf(path, sizeof path, "%s/XXXXXX", folder);
        int file = mkstemp(path);
        if (!command || file < 0 || write(file, ptx, strlen(ptx)) != (ssize_t)strlen(ptx)) return INVALID_PTX;
        close(file);
        snprintf(line, sizeof line, "%s '%s' '%s.so' && mv '%s.so' '%s'", command, path, path, path, library);
        if (system(line) != 0) return INVALID_PTX;
        unlink(path);
    }
    void *made = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!made) return fprintf(stderr, "%s\n", dlerror()), INVALID_PTX;
    kernel->parameters = ((int (*)(void))dlsym(made, "parameters"))();
    kernel->sizes = ((const int *(*)(void))dlsym(made, "sizes"))();
    kernel->run = (int (*)(const Launch *))dlsym(made, "run");
    return OK;
}

int cuModuleLoadData(void **out, const char *ptx) {
    Kernel *kernel = calloc(1, sizeof *kernel);
    const char *entry = strstr(ptx, ".entry ");
    if (!kernel || !entry || sscanf(entry, ".entry %255[^( \n]", kernel->entry) != 1) return INVALID_PTX;
    if (recorded) {
        int status = refused_while_recording(kernel->entry);
        free(kernel);
        return status;
    }
    int spilled = 0;
    double seconds = 0;
    int status = assemble(ptx, kernel, &spilled, &seconds);
    if (status == OK) status = translate(ptx, kernel);
    kernel->module = __atomic_add_fetch(&modules, 1, __ATOMIC_SEQ_CST);
    kernel->allowed_shared = FREE_SHARED;
    char line[1024];
    snprintf(line, sizeof line, "module\t%d\t%s\t%d registers\t%d spilled\t%d shared\t%.3f s\t%s\n", kernel->module, kernel->entry,
             kernel->registers, spilled, kernel->fixed_shared, seconds, status == OK ? "good" : "REFUSED");
    note(line);
    return *out = kernel, status;
}

int cuModuleGetFunction(void **out, Kernel *module, const char *name) {
    return *out = module, strcmp(name, module->entry) == 0 ? OK : NOT_FOUND;
}

int cuModuleUnload(Kernel *module) { return OK; }

int cuFuncSetAttribute(Kernel *kernel, int attribute, int value) {
    if (attribute != 8) return INVALID_VALUE;
    if (value + kernel->fixed_shared > MOST_SHARED) return INVALID_VALUE;
    kernel->allowed_shared = value > FREE_SHARED ? value : FREE_SHARED;
    return OK;
}

int cuLaunchKernel(Kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   Stream *stream, void **parameters, void **extra) {
    uint64_t threads = (uint64_t)bx * by * bz, registers = ((kernel->registers + 7) & ~7) * ((threads + 31) & ~31ull);
    int status = OK;
    if (stream == recorded) {
        char line[512];
        snprintf(line, sizeof line, "node\t%s\t%u %u %u\t%u %u %u\n", kernel->entry, gx, gy, gz, bx, by, bz);
        note(line);
        kernels++;
    } else {
        launched = 1;
    }
    __atomic_add_fetch(&launches, 1, __ATOMIC_SEQ_CST);
    if (!gx || !gy || !gz || !threads || threads > MOST_THREADS || bz > 64 || gy > 65535 || gz > 65535) status = INVALID_VALUE;
    else if (shared + kernel->fixed_shared > (unsigned)kernel->allowed_shared) status = INVALID_VALUE;
    else if (registers > REGISTERS) status = OUT_OF_RESOURCES;
    if (status == OK && kernel->run) {
        Launch launch = {{gx, gy, gz}, {bx, by, bz}, shared, getenv("CUDA_STUB_REVERSED") != NULL, parameters, NULL};
        launch.parameters = calloc(kernel->parameters, sizeof(void *));
        for (int i = 0; i < kernel->parameters; i++) {
            launch.parameters[i] = aligned_alloc(64, (kernel->sizes[i] + 63) / 64 * 64);
            memcpy(launch.parameters[i], parameters[i], kernel->sizes[i]);
        }
        give(stream, (Node){.kernel = kernel, .launch = launch, .counted = stream == recorded && getenv("CUDA_STUB_COUNT")});
    }
    uint64_t form = threads | (uint64_t)shared << 16 | (uint64_t)status << 48;
    pthread_mutex_lock(&lock);
    int known = kernel->forms == 64;
    for (int i = 0; i < kernel->forms && !known; i++) known = kernel->seen[i] == form;
    if (!known) kernel->seen[kernel->forms++] = form;
    pthread_mutex_unlock(&lock);
    if (!known) {
        char line[512];
        snprintf(line, sizeof line, "launch\t%d\t%s\t%u %u %u\t%u %u %u\t%u shared\t%s\n", kernel->module, kernel->entry, gx, gy, gz,
                 bx, by, bz, shared, status == OK ? "good" : "REFUSED");
        note(line);
    }
    return status;
}

/* NVRTC asks for this when it first compiles. There is none. */
int cuGetExportTable(const void **table, const void *id) { return note("nvrtc\n"), *table = NULL, NOT_FOUND; }

/* Tensor maps are opaque to everyone but the kernels. */
static int describe(TensorMap *map, int type, unsigned rank, char *base, const uint64_t *dims, const uint64_t *strides, const unsigned *steps,
                    int interleave, int swizzle) {
    static const uint8_t sizes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
    if (type < 0 || type >= (int)sizeof sizes || rank < 1 || rank > 5 || interleave || swizzle > 3 || (uintptr_t)base % 16) return INVALID_VALUE;
    *map = (TensorMap){.base = base, .rank = rank, .element = sizes[type], .swizzle = swizzle};
    for (unsigned i = 0; i < rank; i++) {
        if (!steps[i] || steps[i] > 8 || (i && strides[i - 1] % 16)) return INVALID_VALUE;
        map->dims[i] = dims[i], map->steps[i] = steps[i];
        if (i) map->strides[i - 1] = strides[i - 1];
    }
    return OK;
}

int cuTensorMapEncodeTiled(void *out, int type, unsigned rank, char *base, const uint64_t *dims, const uint64_t *strides, const unsigned *box,
                           const unsigned *steps, int interleave, int swizzle, int promotion, int fill) {
    TensorMap map;
    int status = describe(&map, type, rank, base, dims, strides, steps, interleave, swizzle);
    if (status != OK || box[0] * map.element % 16) return INVALID_VALUE;
    for (unsigned i = 0; i < rank; i++) {
        if (!box[i] || box[i] > 256 || steps[i] != 1) return INVALID_VALUE;
        map.box[i] = box[i];
    }
    return memset(out, 0, 128), memcpy(out, &map, sizeof map), OK;
}

int cuTensorMapEncodeIm2col(void *out, int type, unsigned rank, char *base, const uint64_t *dims, const uint64_t *strides, const int *lower,
                            const int *upper, unsigned channels, unsigned pixels, const unsigned *steps, int interleave, int swizzle,
                            int promotion, int fill) {
    TensorMap map;
    int status = describe(&map, type, rank, base, dims, strides, steps, interleave, swizzle);
    if (status != OK || rank < 3 || !pixels || pixels > 1024 || !channels || channels > 256) return INVALID_VALUE;
    map.pixels = pixels, map.channels = channels;
    for (unsigned i = 0; i < rank - 2; i++) map.lower[i] = lower[i], map.upper[i] = upper[i];
    return memset(out, 0, 128), memcpy(out, &map, sizeof map), OK;
}

int cuTensorMapEncodeIm2colWide(void *map, ...) { return running() ? NOT_SUPPORTED : (memset(map, 0, 128), OK); }

int cuGetErrorName(int error, const char **out) {
    return *out = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : error == OUT_OF_RESOURCES ? "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"
                : error == INVALID_PTX ? "CUDA_ERROR_INVALID_PTX" : "CUDA_ERROR", OK;
}

int cuGetErrorString(int error, const char **out) { return *out = "refused by the stub", OK; }

static void __attribute__((destructor)) ended(void) {
    char line[128];
    if (!most_used) return; /* was only looked at */
    snprintf(line, sizeof line, "total\t%zu bytes\t%ld launches\t%ld replays\n", most_used, launches, replays);
    note(line);
}
