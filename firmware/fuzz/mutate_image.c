/* Mutations that know the format, for libFuzzer: sections of other memories, lengths that fit them or do not. */
#include "fuzz_image.h"

#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* xorshift32 */
static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static uint32_t below(uint32_t *state, uint32_t limit)
{
    return next_random(state) % limit;
}

/* Memory of the next section: mostly behind the one before, now and then any, or one that is not there. */
static uint32_t choose_memory(uint32_t *state, uint32_t due)
{
    const uint32_t kind = below(state, 16);
    if (kind == 0) {
        return below(state, LMHT_MEMORY_COUNT + 1u);
    }
    return due + (kind < 5 ? 1u : 0u);
}

/* Write headers of sections one behind the other as far as there is room; returns the words up to their end. */
static size_t lay_out(uint8_t *image, size_t room, uint32_t *state)
{
    size_t at = FUZZ_HEADER_WORDS;
    uint32_t due = 0;
    uint32_t section;
    for (section = 0; section < LMHT_IMAGE_SECTIONS; section++) {
        const uint32_t index = choose_memory(state, due);
        const fuzz_memory_t memory = fuzz_memories[index % LMHT_MEMORY_COUNT];
        if (at + FUZZ_SECTION_WORDS > room) {
            break;
        }
        fuzz_set_word(image, at, index);
        fuzz_set_word(image, at + 1, memory.words + (below(state, 24) == 0 ? 1u : 0u));
        fuzz_set_word(image, at + 2, memory.rows - (below(state, 24) == 0 ? 1u : 0u));
        at += FUZZ_SECTION_WORDS + (size_t)memory.words * memory.rows;
        due = index + 1;
    }
    return at < room ? at : room;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    uint32_t state = seed | 1u;
    size_t length = LMHT_IMAGE_BYTES;
    size_t words;
    if (below(&state, 4) != 0 || max_size < FUZZ_PREFIX + 2 * LMHT_IMAGE_BYTES || size < FUZZ_PREFIX) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    if (size < max_size) {
        memset(data + size, 0, max_size - size);
    }
    words = lay_out(data + FUZZ_PREFIX, (max_size - FUZZ_PREFIX) / 4 - 1u, &state);
    if (below(&state, 4) == 0) {
        length = 4 * (words + 1);
    }
    if (below(&state, 2) == 0 && length + FUZZ_PREFIX <= max_size) {
        memset(data + FUZZ_PREFIX, 0, 4 * FUZZ_HEADER_WORDS);
        memset(data + FUZZ_PREFIX + length - 4, 0, 4);
    }
    return FUZZ_PREFIX + length <= max_size ? FUZZ_PREFIX + length : max_size;
}
