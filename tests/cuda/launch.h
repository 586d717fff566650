/* What the driver tells a kernel that is run in software (device.h). */
#include <stdint.h>

/* What a launch took, where that is counted: instructions of all threads and of the one with the most, bytes of global memory asked for, and
 * bytes of it that were read and written at least once, in sectors of 32. */
typedef struct {
    uint64_t instructions, longest, requested, read, written;
} Counts;

typedef struct {
    unsigned grid[3], block[3], shared; /* shared: bytes that are asked for at the launch */
    int reversed;
    void **parameters;
    Counts *counts;
} Launch;

/* A tensor in the device's memory of which boxes are copied, sizes from the innermost axis on, strides in bytes from the second on. Or
 * (pixels is not 0) so many neighbours in its inner axes, within corners, of so many channels each. */
typedef struct {
    char *base;
    uint64_t strides[4];
    uint32_t dims[5];
    uint16_t box[5], pixels, channels;
    int16_t lower[3], upper[3];
    uint8_t rank, element, swizzle, steps[5];
} TensorMap;
