/*
 * An input of the fuzzer and the image that it stands for.
 *
 *   byte 0    FUZZ_FAULT_*, modulo their number: what goes wrong when the image is loaded a second time
 *   byte 1    where: the access that fails, the identification register that is wrong, the word that is lost
 *   the rest  the image; of its words 0 to 5 and of its last one (checksum) the difference (XOR) to what would be right
 *
 * So a checksum that is right is an input of four zeros, every image can be reached, and inputs stay what they are when
 * the design's hash changes.
 */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "lmht.h"

#define FUZZ_PREFIX 2u /* bytes before the image */
#define FUZZ_HEADER_WORDS 6u
#define FUZZ_SECTION_WORDS 3u

enum {
    FUZZ_FAULT_BUS,     /* an access fails */
    FUZZ_FAULT_FOREIGN, /* the core is another one */
    FUZZ_FAULT_LOST,    /* a word to LOAD_DATA is lost */
    FUZZ_FAULT_ENDLESS, /* results never end */
    FUZZ_FAULTS
};

/* A memory as the design's header lists it. */
typedef struct fuzz_memory {
    uint32_t rows;
    uint32_t words; /* of a row */
} fuzz_memory_t;

extern const fuzz_memory_t fuzz_memories[LMHT_MEMORY_COUNT];

/* What lmht_check_image(), and lmht_load_image() with the fault, said of the last input. */
extern lmht_status_t fuzz_checked;
extern lmht_status_t fuzz_loaded;

/* Turn image bytes of an input into the image itself, or back: it is its own inverse but for the checksum. */
void fuzz_toggle_header(uint8_t *image, size_t length);

/* Word `index` of the image, and its setter: little-endian, at any address. */
uint32_t fuzz_get_word(const uint8_t *image, size_t index);
void fuzz_set_word(uint8_t *image, size_t index, uint32_t value);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* FUZZ_IMAGE_H */
