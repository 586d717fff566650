/* A CUDA driver without a GPU: libcuda.so for machines that have none.
 *
 * It knows what CubeCL's CUDA runtime calls and nothing else. Memory is the host's, zeroed; streams are done with what they are
 * given at once; kernels are assembled by `ptxas`, as a driver does, and their launches are held against the device's limits, but
 * none is run: what a kernel would have written stays as it was. So everything but the values is tried: NVRTC on every kernel,
 * registers and shared memory, allocations, copies, the whole host side. While launches are recorded for a graph, what a driver
 * refuses then is refused: to wait, to allocate, to load a module.
 *
 *   CUDA_STUB_LOG      a file: a line of tab-separated values for each module loaded, each new form of launch and each launch that
 *                      is recorded, one where NVRTC is used or a graph recorded, one for the most memory in use, the count of
 *                      launches and that of replays
 *   CUDA_STUB_PTXAS    the assembler; without it modules are taken as they are
 *   CUDA_STUB_ARCH     compute capability, 90 unless given
 *   CUDA_STUB_SPOIL    so many recordings, from the first on, are refused
 *   CUDA_STUB_WAIT     microseconds that waiting for kernels takes, 20000 unless given
 *   CUDA_STUB_MEMORY   bytes of the device, 80e9 unless given; more is out of memory
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_PTX = 218, NOT_FOUND = 500, OUT_OF_RESOURCES = 701 };
enum { NOT_WHILE_RECORDING = 900, SPOILT = 901 };
enum { MOST_THREADS = 1024, MOST_SHARED = 227 * 1024, FREE_SHARED = 48 * 1024, REGISTERS = 65536 };

typedef struct Kernel {
    int module, registers, fixed_shared, allowed_shared;
    char entry[256];
    uint64_t seen[64]; /* forms of launch already noted */
    int forms;
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

static int context, stream, event;

int cuDevicePrimaryCtxRetain(void **out, int device) { return *out = &context, OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
int cuCtxSetCurrent(void *ctx) { return OK; }
int cuCtxGetCurrent(void **out) { return *out = &context, OK; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, OK; }

/* Graphs: recordings of launches and copies, of which one is made at a time. */

static int recording, recordings, spoilt, kernels, copies;
static long replays;
static int graph; /* any address will do */

/* For what a driver does not do while a stream of any thread records, and spoils the recording. */
static int refused_while_recording(const char *what) {
    if (!recording) return OK;
    char line[128];
    spoilt = 1;
    snprintf(line, sizeof line, "spoilt\t%s\n", what);
    note(line);
    return NOT_WHILE_RECORDING;
}

int cuStreamBeginCapture_v2(void *s, int mode) {
    if (recording) return INVALID_VALUE;
    recording = 1;
    kernels = copies = 0;
    spoilt = recordings++ < (int)number("CUDA_STUB_SPOIL", 0);
    return OK;
}

int cuStreamEndCapture(void *s, void **out) {
    char line[64];
    if (!recording) return INVALID_VALUE;
    recording = 0;
    snprintf(line, sizeof line, "graph\t%d launches\t%d copies\t%s\n", kernels, copies, spoilt ? "REFUSED" : "good");
    note(line);
    return *out = spoilt ? NULL : &graph, spoilt ? SPOILT : OK;
}

int cuGraphGetNodes(void *g, void **out, size_t *count) { return *count = 0, OK; } /* it is asked for those of memory */
int cuGraphNodeGetType(void *node, int *type) { return *type = 0, OK; }
int cuGraphInstantiateWithFlags(void **out, void *g, unsigned long long flags) { return *out = &graph, OK; }
int cuGraphUpload(void *g, void *s) { return OK; }
int cuGraphDestroy(void *g) { return OK; }
int cuGraphExecDestroy(void *g) { return OK; }

/* Streams and events: whoever waits for kernels waits 20 ms, long enough for CubeCL, which repeats a kernel until its time can be
 * told. Where the host's own time is asked for, once kernels are kept, that is to be less: CubeCL waits each time that some megabytes
 * have been brought to the device. */

static int launched;

static int wait_for_kernels(void) {
    if (__atomic_exchange_n(&launched, 0, __ATOMIC_SEQ_CST)) usleep((unsigned)number("CUDA_STUB_WAIT", 20000));
    return OK;
}

int cuStreamCreate(void **out, unsigned flags) { return *out = &stream, OK; }
int cuStreamCreateWithPriority(void **out, unsigned flags, int priority) { return *out = &stream, OK; }
int cuGraphLaunch(void *g, void *s) { return __atomic_add_fetch(&replays, 1, __ATOMIC_SEQ_CST), launched = 1, OK; }
int cuStreamSynchronize(void *s) { return recording ? refused_while_recording("cuStreamSynchronize") : wait_for_kernels(); }
int cuStreamDestroy_v2(void *s) { return OK; }
int cuStreamWaitEvent(void *s, void *e, unsigned flags) { return OK; }
int cuEventCreate(void **out, unsigned flags) { return *out = &event, OK; }
int cuEventRecord(void *e, void *s) { return OK; }
int cuEventSynchronize(void *e) { return recording ? refused_while_recording("cuEventSynchronize") : wait_for_kernels(); }
int cuEventQuery(void *e) { return OK; }
int cuEventDestroy_v2(void *e) { return OK; }
int cuEventElapsedTime(float *ms, void *a, void *b) { return *ms = 20, OK; }
int cuEventElapsedTime_v2(float *ms, void *a, void *b) { return cuEventElapsedTime(ms, a, b); }

/* Memory */

static int take(void **out, size_t size, int counted) {
    if (recording) return refused_while_recording("memory");
    pthread_mutex_lock(&lock);
    int full = counted && in_use + size > (size_t)number("CUDA_STUB_MEMORY", 80e9);
    void *base = full ? NULL : calloc(size + 1024, 1);
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

static int give(void *start) {
    if (!start) return OK;
    Head head = ((Head *)start)[-1];
    pthread_mutex_lock(&lock);
    in_use -= head.size;
    pthread_mutex_unlock(&lock);
    return free(head.base), OK;
}

int cuMemAlloc_v2(void **out, size_t size) { return take(out, size, 1); }
int cuMemAllocAsync(void **out, size_t size, void *s) { return take(out, size, 1); }
int cuMemFree_v2(void *start) { return give(start); }
int cuMemFreeAsync(void *start, void *s) { return give(start); }
int cuMemAllocHost_v2(void **out, size_t size) { return take(out, size, 0); }
int cuMemFreeHost(void *start) { return give(start); }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t size, void *s) { return copies += recording, memcpy(to, from, size), OK; }
/* What is read back is what kernels came to: zero, whatever lay there before. */
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t size, void *s) { return copies += recording, memset(to, 0, size), OK; }
int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t size, void *s) { return copies += recording, memcpy(to, from, size), OK; }

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

int cuMemcpy2DAsync_v2(const Copy2D *copy, void *s) {
    copies += recording;
    for (size_t row = 0; row < copy->height; row++) {
        char *to = begins(&copy->to) + row * copy->to.pitch;
        if (copy->to.type == 1) memset(to, 0, copy->width);
        else memcpy(to, begins(&copy->from) + row * copy->from.pitch, copy->width);
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

int cuModuleLoadData(void **out, const char *ptx) {
    Kernel *kernel = calloc(1, sizeof *kernel);
    const char *entry = strstr(ptx, ".entry ");
    if (!kernel || !entry || sscanf(entry, ".entry %255[^( \n]", kernel->entry) != 1) return INVALID_PTX;
    if (recording) {
        int status = refused_while_recording(kernel->entry);
        free(kernel);
        return status;
    }
    int spilled = 0;
    double seconds = 0;
    int status = assemble(ptx, kernel, &spilled, &seconds);
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
                   void *s, void **parameters, void **extra) {
    uint64_t threads = (uint64_t)bx * by * bz, registers = ((kernel->registers + 7) & ~7) * ((threads + 31) & ~31ull);
    int status = OK;
    if (recording) {
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
int cuTensorMapEncodeTiled(void *map, ...) { return memset(map, 0, 128), OK; }
int cuTensorMapEncodeIm2col(void *map, ...) { return memset(map, 0, 128), OK; }
int cuTensorMapEncodeIm2colWide(void *map, ...) { return memset(map, 0, 128), OK; }

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
