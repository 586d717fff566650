/* A GPU in software: what the C that ptx.py makes of a kernel is compiled with.
 *
 * Blocks are run one after another by each core, the threads of a block as coroutines, each until it waits for others: at a barrier of its block
 * or of its warp, where its warp exchanges values or multiplies matrices together, or at a barrier in shared memory. That makes hazards repeatable and
 * not gone: with `reversed` blocks, warps and lanes take their turns in the opposite order, and what depends on the order comes out
 * otherwise. Shared memory begins as NaN. A kernel that reaches beyond its shared memory, reads or writes where a value of its size may
 * not lie, or waits for what never comes, ends the process with its name, as do threads that no barrier brings together.
 *
 * Products take factors as tensor cores do (TF32 cut to 19 bits, bf16), sums are f32 in order. Copies of memory that a GPU makes in the
 * background are made at once.
 */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "launch.h"

enum { WARP = 32, STACK = 1 << 17 };

typedef uint8_t pred, b8;
typedef uint16_t b16;
typedef uint32_t b32;
typedef uint64_t b64;
typedef float f32;
typedef double f64;

typedef enum { READY, WAITING, AT_BARRIER, POLLING, ENDED } State;

typedef struct Thread Thread;

typedef struct {
    Thread *lanes;
    b32 live, met;
    void *offers[WARP]; /* what each lane brings to an exchange */
} Warp;

typedef struct {
    const Launch *launch;
    const char *name;
    unsigned ctaid[3], size; /* threads */
    char *shared;
    b32 shared_bytes;
    Thread *threads;
    Warp *warps;
    jmp_buf turns;
} Block;

struct Thread {
    unsigned tid[3], lane;
    Warp *warp;
    Block *block;
    State state;
    int begun;
    uint64_t instructions, requested;
    jmp_buf rests;
    ucontext_t start;
};

static void kernel(Thread *t, void **parameters);

static void fail(const Thread *t, const char *what) {
    fprintf(stderr, "kernel %s, block %u %u %u, thread %u %u %u: %s\n", t->block->name, t->block->ctaid[0], t->block->ctaid[1],
            t->block->ctaid[2], t->tid[0], t->tid[1], t->tid[2], what);
    abort();
}

/* Counts, where ptx.py is asked for them. A bit for each sector of memory. */

#ifdef COUNT
#define INSTRUCTIONS(n) (t->instructions += n)
static uint64_t *sectors[2], least = ~0ull, most;

static void touch(Thread *t, b64 address, unsigned size, int written) {
    uint64_t sector = address >> 5;
    t->requested += size;
    __atomic_fetch_or(&sectors[written][sector / 64], 1ull << sector % 64, __ATOMIC_RELAXED);
    while (sector < __atomic_load_n(&least, __ATOMIC_RELAXED)) __atomic_store_n(&least, sector, __ATOMIC_RELAXED);
    while (sector > __atomic_load_n(&most, __ATOMIC_RELAXED)) __atomic_store_n(&most, sector, __ATOMIC_RELAXED);
}

static uint64_t touched(int written) {
    uint64_t found = 0;
    for (uint64_t i = least / 64; i <= most / 64; i++) found += __builtin_popcountll(sectors[written][i]);
    return 32 * found;
}
#else
#define INSTRUCTIONS(n)
#define touch(t, address, size, written)
#endif

/* Turns */

static void rest(Thread *t, State state) {
    t->state = state;
    if (_setjmp(t->rests) == 0) _longjmp(t->block->turns, 1);
}

static void live(unsigned high, unsigned low) {
    Thread *t = (Thread *)((uintptr_t)high << 32 | low);
    for (;;) { /* once for each block */
        kernel(t, t->block->launch->parameters);
        t->warp->live &= ~(1u << t->lane);
        rest(t, ENDED);
    }
}

static void take_turn(Thread *t) {
    if (_setjmp(t->block->turns)) return;
    if (t->begun) _longjmp(t->rests, 1);
    t->begun = 1;
    setcontext(&t->start);
}

/* Runs a block to its end. */
static void run_block(Block *block) {
    unsigned warps = (block->size + WARP - 1) / WARP, idle = 0;
    for (;;) {
        unsigned moved = 0, ended = 0, waiting = 0, polling = 0;
        for (unsigned i = 0; i < warps; i++) {
            Warp *warp = &block->warps[block->launch->reversed ? warps - 1 - i : i];
            unsigned first = (warp - block->warps) * WARP, lanes = block->size - first < WARP ? block->size - first : WARP;
            for (unsigned again = 1; again;) {
                again = 0;
                for (unsigned j = 0; j < lanes; j++) {
                    Thread *t = &warp->lanes[block->launch->reversed ? lanes - 1 - j : j];
                    if (t->state != READY) continue;
                    take_turn(t);
                    again = 1;
                    moved |= t->state != POLLING;
                }
            }
            for (unsigned j = 0; j < lanes; j++) {
                Thread *t = &warp->lanes[j];
                ended += t->state == ENDED;
                waiting += t->state == AT_BARRIER;
                polling += t->state == POLLING;
                if (t->state == POLLING) t->state = READY;
            }
        }
        if (ended == block->size) return;
        if (waiting && ended + waiting == block->size) {
            for (unsigned i = 0; i < block->size; i++) {
                if (block->threads[i].state == AT_BARRIER) block->threads[i].state = READY;
            }
        } else if (!polling || idle > 1000) {
            for (unsigned i = 0; i < block->size; i++) {
                if (block->threads[i].state != ENDED) fail(&block->threads[i], "waits for what never comes");
            }
        }
        idle = moved ? 0 : idle + 1;
    }
}

static int run_blocks(const Launch *launch, const char *name, b32 fixed_shared, int alone) {
    unsigned size = launch->block[0] * launch->block[1] * launch->block[2], warps = (size + WARP - 1) / WARP;
    long blocks = (long)launch->grid[0] * launch->grid[1] * launch->grid[2];
#ifdef COUNT
    Counts counts = {0};
    for (int i = 0; i < 2; i++) {
        if (sectors[i]) madvise((char *)sectors[i] + (least / 64 * 8 & ~4095ull), (most - least) / 8 + 8192, MADV_DONTNEED);
        else sectors[i] = mmap(NULL, 1ull << 39, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    least = ~0ull, most = 0;
#endif
#pragma omp parallel
    {
        Block block = {.launch = launch, .name = name, .size = size, .shared_bytes = fixed_shared + launch->shared};
        block.threads = calloc(size, sizeof *block.threads);
        block.warps = calloc(warps, sizeof *block.warps);
        block.shared = aligned_alloc(1024, (block.shared_bytes + 2047) / 1024 * 1024);
        size_t stacks = (size_t)STACK * size;
        char *stack = alone ? NULL : mmap(NULL, stacks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        for (unsigned i = 0; i < size; i++) {
            Thread *t = &block.threads[i];
            *t = (Thread){.tid = {i % launch->block[0], i / launch->block[0] % launch->block[1], i / launch->block[0] / launch->block[1]},
                          .lane = i % WARP, .warp = &block.warps[i / WARP], .block = &block};
            if (alone) continue;
            getcontext(&t->start);
            t->start.uc_stack.ss_sp = stack + (size_t)STACK * i;
            t->start.uc_stack.ss_size = STACK;
            makecontext(&t->start, (void (*)(void))live, 2, (unsigned)((uintptr_t)t >> 32), (unsigned)(uintptr_t)t);
        }
#pragma omp for schedule(dynamic)
        for (long turn = 0; turn < blocks; turn++) {
            long i = launch->reversed ? blocks - 1 - turn : turn;
            block.ctaid[0] = i % launch->grid[0];
            block.ctaid[1] = i / launch->grid[0] % launch->grid[1];
            block.ctaid[2] = i / launch->grid[0] / launch->grid[1];
            memset(block.shared, 0xff, block.shared_bytes);
            for (unsigned j = 0; j < warps; j++) {
                unsigned lanes = size - j * WARP < WARP ? size - j * WARP : WARP;
                block.warps[j] = (Warp){.lanes = &block.threads[j * WARP], .live = lanes == WARP ? ~0u : (1u << lanes) - 1};
            }
            for (unsigned j = 0; j < size; j++) {
                Thread *t = &block.threads[launch->reversed ? size - 1 - j : j];
                if (alone) kernel(t, launch->parameters);
                else t->state = READY;
            }
            if (!alone) run_block(&block);
#ifdef COUNT
#pragma omp critical
            for (unsigned j = 0; j < size; j++) {
                Thread *t = &block.threads[j];
                counts.instructions += t->instructions, counts.requested += t->requested;
                if (t->instructions > counts.longest) counts.longest = t->instructions;
                t->instructions = t->requested = 0;
            }
#endif
        }
        if (stack) munmap(stack, stacks);
        free(block.shared);
        free(block.warps);
        free(block.threads);
    }
#ifdef COUNT
    counts.read = most ? touched(0) : 0, counts.written = most ? touched(1) : 0;
    if (launch->counts) *launch->counts = counts;
#endif
    return 0;
}

/* Values */

static inline b32 bits(f32 x) {
    b32 y;
    return memcpy(&y, &x, 4), y;
}

static inline f32 real(b32 x) {
    f32 y;
    return memcpy(&y, &x, 4), y;
}

static inline f64 real64(b64 x) {
    f64 y;
    return memcpy(&y, &x, 8), y;
}

static inline b32 shl32(b32 x, b32 n) { return n > 31 ? 0 : x << n; }
static inline b64 shl64(b64 x, b32 n) { return n > 63 ? 0 : x << n; }
static inline b32 shru32(b32 x, b32 n) { return n > 31 ? 0 : x >> n; }
static inline b64 shru64(b64 x, b32 n) { return n > 63 ? 0 : x >> n; }
static inline b32 shrs32(b32 x, b32 n) { return (int32_t)x >> (n > 31 ? 31 : n); }
static inline b64 shrs64(b64 x, b32 n) { return (int64_t)x >> (n > 63 ? 63 : n); }
static inline b32 divu32(b32 x, b32 y) { return y ? x / y : ~0u; }
static inline b32 remu32(b32 x, b32 y) { return y ? x % y : x; }
static inline b64 divu64(b64 x, b64 y) { return y ? x / y : ~0ull; }
static inline b64 remu64(b64 x, b64 y) { return y ? x % y : x; }
static inline b32 divs32(int32_t x, int32_t y) { return y ? (b32)((int64_t)x / y) : ~0u; }
static inline b32 rems32(int32_t x, int32_t y) { return y ? (b32)((int64_t)x % y) : (b32)x; }

static inline b32 insert_bits(b32 from, b32 into, b32 position, b32 length) {
    b32 mask = length > 31 ? ~0u : (1u << length) - 1;
    return position > 31 ? into : (into & ~(mask << position)) | (from & mask) << position;
}

static inline b32 permute_bytes(b32 low, b32 high, b32 which) {
    b64 both = (b64)high << 32 | low;
    b32 found = 0;
    for (int i = 0; i < 4; i++) {
        b32 byte = both >> (which >> 4 * i & 7) * 8 & 0xff;
        if (which >> 4 * i & 8) byte = byte & 0x80 ? 0xff : 0;
        found |= byte << 8 * i;
    }
    return found;
}

static inline b32 to_int(f32 x) { return x != x ? 0 : x >= 2147483648.f ? INT32_MAX : x < -2147483648.f ? INT32_MIN : (int32_t)x; }
static inline b32 to_unsigned(f32 x) { return !(x > 0) ? 0 : x >= 4294967296.f ? ~0u : (b32)x; }
static inline f32 saturated(f32 x) { return x > 0 ? x < 1 ? x : 1 : 0; }
static inline f32 of_bf16(b16 x) { return real((b32)x << 16); }
static inline b16 to_bf16(f32 x) { return x != x ? 0x7fff : (bits(x) + 0x7fff + (bits(x) >> 16 & 1)) >> 16; }
/* Ties away from zero. */
static inline b32 to_tf32(f32 x) { return x - x != 0 ? bits(x) : (bits(x) + 0x1000) & ~0x1fffu; }

static inline f32 fma_down(f32 x, f32 y, f32 z) {
    f64 sum = (f64)x * y + z;
    f32 near = sum;
    return near > sum ? nextafterf(near, -INFINITY) : near;
}

/* Memory */

static inline char *at(const Thread *t, b64 address, unsigned size) {
    if (address % size) fail(t, "an address that is no multiple of its value's size");
    return (char *)address;
}

static inline char *read_at(Thread *t, b64 address, unsigned size) {
    touch(t, address, size, 0);
    return at(t, address, size);
}

static inline char *write_at(Thread *t, b64 address, unsigned size) {
    touch(t, address, size, 1);
    return at(t, address, size);
}

static inline char *in_shared(const Thread *t, b32 address, unsigned size) {
    if (address > t->block->shared_bytes || size > t->block->shared_bytes - address) fail(t, "beyond shared memory");
    return at(t, (b64)(t->block->shared + address), size);
}

static inline f32 atomic_add_f32(char *place, f32 x) {
    b32 before = __atomic_load_n((b32 *)place, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n((b32 *)place, &before, bits(real(before) + x), 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return real(before);
}

/* Meetings of a warp: the last of the lanes acts for all of them. */

static void meet(Thread *t, b32 members, void (*act)(Warp *, b32), void *offer) {
    Warp *warp = t->warp;
    members &= warp->live;
    warp->offers[t->lane] = offer;
    warp->met |= 1u << t->lane;
    if (!(members >> t->lane & 1)) fail(t, "is not among those that it waits for");
    if ((warp->met & members) != members) {
        rest(t, WAITING);
        return;
    }
    if (act) act(warp, members);
    warp->met &= ~members;
    for (int i = 0; i < WARP; i++) {
        if (members >> i & 1 && warp->lanes[i].state == WAITING) warp->lanes[i].state = READY;
    }
}

typedef struct {
    b32 value, found, other, mode; /* mode: of the lane that is asked, the mask, and c of the instruction */
    pred within;
} Shuffle;

enum { SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_BFLY, SHUFFLE_IDX };

static void shuffle_all(Warp *warp, b32 members) {
    for (int lane = 0; lane < WARP; lane++) {
        if (!(members >> lane & 1)) continue;
        Shuffle *own = warp->offers[lane];
        int clamp = own->mode & 31, segment = own->mode >> 8 & 31, other = own->other & 31;
        int most = (lane & segment) | (clamp & ~segment), least = lane & segment, from;
        switch (own->mode >> 16) {
        case SHUFFLE_UP: from = lane - other, own->within = from >= most; break;
        case SHUFFLE_DOWN: from = lane + other, own->within = from <= most; break;
        case SHUFFLE_BFLY: from = lane ^ other, own->within = from <= most; break;
        default: from = least | (other & ~segment), own->within = from <= most;
        }
        if (!own->within) from = lane;
        if (!(members >> from & 1)) fail(&warp->lanes[lane], "shuffles with a lane that is not there");
        own->found = ((Shuffle *)warp->offers[from])->value;
    }
}

static inline b32 shuffle(Thread *t, int kind, b32 value, b32 other, b32 clamp, b32 members, pred *within) {
    Shuffle own = {.value = value, .other = other, .mode = (b32)kind << 16 | (clamp & 0x1f1f)};
    meet(t, members, shuffle_all, &own);
    return *within = own.within, own.found;
}

static void ballot_all(Warp *warp, b32 members) {
    b32 votes = 0;
    for (int lane = 0; lane < WARP; lane++) {
        if (members >> lane & 1) votes |= (*(b32 *)warp->offers[lane] & 1) << lane;
    }
    for (int lane = 0; lane < WARP; lane++) {
        if (members >> lane & 1) *(b32 *)warp->offers[lane] = votes;
    }
}

static inline b32 ballot(Thread *t, pred vote, b32 members) {
    b32 own = vote;
    return meet(t, members, ballot_all, &own), own;
}

/* Products of a warp. Which element lies in which lane is the device's own affair with `wmma`: here one lane after another. */

typedef struct {
    b32 a[8], b[8];
    f32 c[8], d[8];
} Product;

static inline f32 element(const b32 *registers, int i, int bf16) {
    return bf16 ? of_bf16(registers[i / 2] >> i % 2 * 16) : real(registers[i] & ~0x1fffu);
}

static inline __attribute__((always_inline)) void multiply(const f32 *a, const f32 *b, f32 *c, int m, int n, int k) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < k; j++)
            for (int l = 0; l < n; l++) c[i * n + l] += a[i * k + j] * b[j * n + l];
}

static inline __attribute__((always_inline)) void wmma(Warp *warp, int m, int n, int k, int bf16) {
    f32 a[m * k], b[k * n], c[m * n];
    for (int lane = 0; lane < WARP; lane++) {
        Product *own = warp->offers[lane];
        for (int i = 0; i < m * k / WARP; i++) a[lane * (m * k / WARP) + i] = element(own->a, i, bf16);
        for (int i = 0; i < k * n / WARP; i++) b[lane * (k * n / WARP) + i] = element(own->b, i, bf16);
        for (int i = 0; i < m * n / WARP; i++) c[lane * (m * n / WARP) + i] = own->c[i];
    }
    multiply(a, b, c, m, n, k);
    for (int lane = 0; lane < WARP; lane++) {
        for (int i = 0; i < m * n / WARP; i++) ((Product *)warp->offers[lane])->d[i] = c[lane * (m * n / WARP) + i];
    }
}

static inline void wmma_load(const Thread *t, b32 *registers, b64 address, b32 stride, int rows, int columns, int by_column, int bf16) {
    for (int i = 0; i < rows * columns / WARP; i++) {
        int element = t->lane * (rows * columns / WARP) + i, row = element / columns, column = element % columns;
        size_t offset = by_column ? (size_t)column * stride + row : (size_t)row * stride + column;
        if (!bf16) {
            memcpy(&registers[i], (char *)address + 4 * offset, 4);
        } else {
            b16 half;
            memcpy(&half, (char *)address + 2 * offset, 2);
            registers[i / 2] = i % 2 ? registers[i / 2] | (b32)half << 16 : half;
        }
    }
}

static inline void wmma_place(const Thread *t, f32 *values, b64 address, b32 stride, int rows, int columns, int by_column, int store) {
    for (int i = 0; i < rows * columns / WARP; i++) {
        int element = t->lane * (rows * columns / WARP) + i, row = element / columns, column = element % columns;
        char *place = (char *)address + 4 * (by_column ? (size_t)column * stride + row : (size_t)row * stride + column);
        if (store) memcpy(place, &values[i], 4);
        else memcpy(&values[i], place, 4);
    }
}

/* `mma` of 16 by 8, whose layout is told (PTX ISA, matrix fragments): k of 8 in TF32, of 16 in bf16. */
static inline __attribute__((always_inline)) void mma(Warp *warp, int k, int bf16) {
    f32 a[16 * k], b[k * 8], c[16 * 8];
    for (int lane = 0; lane < WARP; lane++) {
        Product *own = warp->offers[lane];
        int group = lane / 4, place = lane % 4, pack = bf16 ? 2 : 1;
        for (int i = 0; i < 4 * pack; i++) {
            int quarter = i / pack, row = group + 8 * (quarter % 2), column = place * pack + i % pack + k / 2 * (quarter / 2);
            a[row * k + column] = element(own->a, i, bf16);
        }
        for (int i = 0; i < 2 * pack; i++) b[(place * pack + i % pack + k / 2 * (i / pack)) * 8 + group] = element(own->b, i, bf16);
        for (int i = 0; i < 4; i++) c[(group + 8 * (i / 2)) * 8 + 2 * place + i % 2] = own->c[i];
    }
    multiply(a, b, c, 16, 8, k);
    for (int lane = 0; lane < WARP; lane++) {
        for (int i = 0; i < 4; i++) ((Product *)warp->offers[lane])->d[i] = c[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2];
    }
}

/* Barriers in shared memory, and what is copied for them */

typedef struct {
    int32_t bytes; /* still to come */
    b16 pending, expected : 15, phase : 1;
} Mbarrier;

static inline Mbarrier *mbarrier(const Thread *t, b32 address) { return (Mbarrier *)in_shared(t, address, 8); }

static inline void mbarrier_init(const Thread *t, b32 address, b32 count) {
    *mbarrier(t, address) = (Mbarrier){.pending = count, .expected = count};
}

static inline b64 mbarrier_change(const Thread *t, b32 address, int arrivals, int bytes) {
    Mbarrier *own = mbarrier(t, address);
    b64 before = own->phase;
    if (arrivals > own->pending) fail(t, "more arrive at a barrier than it was made for");
    own->bytes += bytes;
    own->pending -= arrivals;
    if (!own->pending && !own->bytes) own->phase ^= 1, own->pending = own->expected;
    return before;
}

static inline pred mbarrier_wait(Thread *t, b32 address, b32 phase) {
    if (mbarrier(t, address)->phase == (phase & 1)) rest(t, POLLING);
    return mbarrier(t, address)->phase != (phase & 1);
}

static inline void copy_async(Thread *t, b32 to, b64 from, b32 size, b32 taken) {
    char *place = in_shared(t, to, size);
    if (taken) memcpy(place, read_at(t, from, size), taken);
    memset(place + taken, 0, size - taken);
}

/* The i-th element of what is copied. Outside of the tensor there are zeros. */
static inline void copy_element(Thread *t, const TensorMap *map, b32 to, b32 i, const b32 *at) {
    b32 size = map->element, place = to + i * size;
    char *from = map->base;
    int within = 1;
    for (int d = 0; d < map->rank; d++) {
        within &= at[d] < map->dims[d];
        from += (b64)at[d] * (d ? map->strides[d - 1] : size);
    }
    /* The swizzles of 32, 64 and 128 bytes exchange sixteens of bytes by what the place is a multiple of. */
    place ^= (place >> 3 & 0x70) & (map->swizzle == 3 ? 0x70 : map->swizzle == 2 ? 0x30 : map->swizzle == 1 ? 0x10 : 0);
    if (within) memcpy(in_shared(t, place, size), read_at(t, (b64)from, size), size);
    else memset(in_shared(t, place, size), 0, size);
}

static inline void copy_tensor(Thread *t, b32 to, b64 tensor, const b32 *corner, b32 barrier) {
    const TensorMap *map = (const TensorMap *)tensor;
    b32 count = 1, at[5];
    for (int d = 0; d < map->rank; d++) count *= map->box[d];
    in_shared(t, to, 16);
    for (b32 i = 0; i < count; i++) {
        b32 left = i;
        for (int d = 0; d < map->rank; d++) at[d] = corner[d] + left % map->box[d], left /= map->box[d];
        copy_element(t, map, to, i, at);
    }
    mbarrier_change(t, barrier, 0, -(int)(count * map->element));
}

static inline void copy_columns(Thread *t, b32 to, b64 tensor, const b32 *corner, const b16 *offsets, b32 barrier) {
    const TensorMap *map = (const TensorMap *)tensor;
    int inner = map->rank - 2;
    b32 pixel[5], at[5];
    memcpy(pixel, corner, map->rank * sizeof *pixel);
    in_shared(t, to, 16);
    for (b32 i = 0; i < map->pixels; i++) {
        at[map->rank - 1] = pixel[map->rank - 1];
        for (int d = 0; d < inner; d++) at[d + 1] = pixel[d + 1] + offsets[d];
        for (b32 j = 0; j < map->channels; j++) at[0] = pixel[0] + j, copy_element(t, map, to, i * map->channels + j, at);
        int d = 1;
        for (; d <= inner; d++) {
            pixel[d] += map->steps[d];
            if ((int)pixel[d] < (int)map->dims[d] + map->upper[d - 1]) break;
            pixel[d] = map->lower[d - 1];
        }
        if (d > inner) pixel[d]++;
    }
    mbarrier_change(t, barrier, 0, -(int)(map->pixels * map->channels * map->element));
}
