/*
 * Fuzz target of the driver's image parser. A finding is more than a crash: what lmht_check_image() says is compared
 * with a reader of the format that shares no code with it, and what lmht_load_image() writes with what that reader found.
 */
#include "fuzz_image.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY(name, index, width, rows, words) {rows, words},
const fuzz_memory_t fuzz_memories[LMHT_MEMORY_COUNT] = {LMHT_MEMORIES(MEMORY)};
#undef MEMORY

#define SIZE(name, index, width, rows, words) +(rows) * (words)
#define ALL_WORDS (0u LMHT_MEMORIES(SIZE))

#define IDENTIFICATION 6u
#define NEVER UINT32_MAX

lmht_status_t fuzz_checked;
lmht_status_t fuzz_loaded;

/* What an image is, by the format's rules. */
typedef struct verdict {
    uint32_t refusals;                      /* bit of every status for which there is a reason */
    size_t section_data[LMHT_MEMORY_COUNT]; /* word at which a memory's data begin; 0 if the image has none */
} verdict_t;

/* A core that loads memories, watches the rules of loading, and shows one fault. */
typedef struct core {
    uint32_t fault;
    uint32_t place;
    uint32_t accesses;
    uint32_t writes;
    bool failed;
    bool enabled;
    bool reset;
    bool cleared;
    uint32_t select;
    uint32_t row;
    uint32_t word;
    uint32_t data_words; /* words to LOAD_DATA */
    uint32_t contents[ALL_WORDS];
    uint8_t written[ALL_WORDS]; /* times */
} core_t;

static void require(bool holds, const char *rule)
{
    if (!holds) {
        fprintf(stderr, "fuzz_image: %s\n", rule);
        abort();
    }
}

uint32_t fuzz_get_word(const uint8_t *image, size_t index)
{
    uint32_t value = 0;
    size_t byte;
    for (byte = 4; byte-- > 0;) {
        value = value * 256u + image[4 * index + byte];
    }
    return value;
}

void fuzz_set_word(uint8_t *image, size_t index, uint32_t value)
{
    size_t byte;
    for (byte = 0; byte < 4; byte++) {
        image[4 * index + byte] = (uint8_t)(value >> 8 * byte & 255u);
    }
}

/* Bit by bit, from the polynomial: the driver's is from a table. */
static uint32_t checksum(const uint8_t *bytes, size_t length)
{
    uint32_t crc = UINT32_MAX;
    size_t i;
    int bit;
    for (i = 0; i < length; i++) {
        for (bit = 0; bit < 8; bit++) {
            const uint32_t feedback = (crc ^ (uint32_t)bytes[i] >> bit) & 1u;
            crc = crc >> 1 ^ (feedback != 0 ? 0xedb88320u : 0u);
        }
    }
    return crc ^ UINT32_MAX;
}

void fuzz_toggle_header(uint8_t *image, size_t length)
{
    const uint32_t right[FUZZ_HEADER_WORDS] = {LMHT_IMAGE_MAGIC,      LMHT_IMAGE_FORMAT,      LMHT_DESIGN_HASH_LOW,
                                               LMHT_DESIGN_HASH_HIGH, (uint32_t)(length / 4), LMHT_IMAGE_SECTIONS};
    size_t i;
    for (i = 0; i < FUZZ_HEADER_WORDS && 4 * i + 4 <= length; i++) {
        fuzz_set_word(image, i, fuzz_get_word(image, i) ^ right[i]);
    }
}

/* An image in its own allocation, at an odd address: the sanitizers see reads beyond it and reads of whole words. */
static uint8_t *make_image(const uint8_t *data, size_t length, uint8_t **allocation)
{
    uint8_t *image;
    *allocation = malloc(length + 1);
    if (*allocation == NULL) {
        exit(2);
    }
    image = *allocation + 1;
    if (length != 0) {
        memcpy(image, data, length);
    }
    fuzz_toggle_header(image, length);
    if (length >= 4) {
        uint8_t *last = image + length - 4;
        fuzz_set_word(last, 0, fuzz_get_word(last, 0) ^ checksum(image, length - 4));
    }
    return image;
}

/* Memory by memory in the design's order: the section that is due is this memory's, or the image has none of it. */
static bool read_sections(const uint8_t *image, size_t end, verdict_t *verdict)
{
    size_t at = FUZZ_HEADER_WORDS;
    uint32_t found = 0;
    uint32_t index;
    for (index = 0; index < LMHT_MEMORY_COUNT; index++) {
        const uint64_t size = (uint64_t)fuzz_memories[index].rows * fuzz_memories[index].words;
        if (end - at >= FUZZ_SECTION_WORDS + size && fuzz_get_word(image, at) == index &&
            fuzz_get_word(image, at + 1) == fuzz_memories[index].words &&
            fuzz_get_word(image, at + 2) == fuzz_memories[index].rows) {
            verdict->section_data[index] = at + FUZZ_SECTION_WORDS;
            at += FUZZ_SECTION_WORDS + (size_t)size;
            found++;
        }
    }
    return at == end && found == LMHT_IMAGE_SECTIONS;
}

static verdict_t judge(const uint8_t *image, size_t length)
{
    verdict_t verdict = {0};
    const size_t words = length / 4;
    if (length % 4 != 0 || words < FUZZ_HEADER_WORDS + 1) {
        verdict.refusals = 1u << LMHT_ERR_IMAGE_LENGTH;
        return verdict;
    }
    if (fuzz_get_word(image, 0) != LMHT_IMAGE_MAGIC || fuzz_get_word(image, 1) != LMHT_IMAGE_FORMAT) {
        verdict.refusals |= 1u << LMHT_ERR_IMAGE_FORMAT;
    }
    if (fuzz_get_word(image, 2) != LMHT_DESIGN_HASH_LOW || fuzz_get_word(image, 3) != LMHT_DESIGN_HASH_HIGH) {
        verdict.refusals |= 1u << LMHT_ERR_DESIGN;
    }
    if (fuzz_get_word(image, 4) != words) {
        verdict.refusals |= 1u << LMHT_ERR_IMAGE_LENGTH;
    }
    if (fuzz_get_word(image, words - 1) != checksum(image, length - 4)) {
        verdict.refusals |= 1u << LMHT_ERR_IMAGE_CORRUPTED;
    }
    if (fuzz_get_word(image, 5) != LMHT_IMAGE_SECTIONS || length != LMHT_IMAGE_BYTES ||
        !read_sections(image, words - 1, &verdict)) {
        verdict.refusals |= 1u << LMHT_ERR_IMAGE_LAYOUT;
    }
    return verdict;
}

/* Whether this access fails; none may follow one that did. */
static int access_core(core_t *core)
{
    require(!core->failed, "an access follows one that failed");
    core->accesses++;
    core->failed = core->fault == FUZZ_FAULT_BUS && core->accesses == core->place;
    return core->failed ? -1 : 0;
}

static int core_read(void *context, uint32_t address, uint32_t *value)
{
    static const uint32_t identification[IDENTIFICATION][2] = {
        {LMHT_REG_ID, LMHT_ID_VALUE},
        {LMHT_REG_VERSION, LMHT_VERSION_VALUE},
        {LMHT_REG_DESIGN_HASH_LOW, LMHT_DESIGN_HASH_LOW},
        {LMHT_REG_DESIGN_HASH_HIGH, LMHT_DESIGN_HASH_HIGH},
        {LMHT_REG_FRAME_BYTES, LMHT_FRAME_BYTES},
        {LMHT_REG_CLASSES, LMHT_CLASSES},
    };
    core_t *core = context;
    uint32_t i;
    require(address < LMHT_REGISTERS_END, "a register that is not there is read");
    *value = address == LMHT_REG_LOAD_ROW ? core->row : 0;
    for (i = 0; i < IDENTIFICATION; i++) {
        if (address == identification[i][0]) {
            *value = identification[i][1];
            if (core->fault == FUZZ_FAULT_FOREIGN && core->place == i) {
                *value ^= 0x100u;
            }
        }
    }
    return access_core(core);
}

/* Words of all memories before this one. */
static size_t place_of(uint32_t index)
{
    size_t place = 0;
    uint32_t i;
    for (i = 0; i < index; i++) {
        place += (size_t)fuzz_memories[i].rows * fuzz_memories[i].words;
    }
    return place;
}

static void load_word(core_t *core, uint32_t value)
{
    const fuzz_memory_t *memory = &fuzz_memories[core->select];
    size_t place;
    core->data_words++;
    if (core->fault == FUZZ_FAULT_LOST && core->data_words == core->place) {
        return;
    }
    require(core->row < memory->rows, "more words are written than the memory has");
    place = place_of(core->select) + (size_t)core->row * memory->words + core->word;
    core->contents[place] = value;
    core->written[place]++;
    core->word++;
    if (core->word == memory->words) {
        core->word = 0;
        core->row++;
    }
}

static int core_write(void *context, uint32_t address, uint32_t value)
{
    core_t *core = context;
    core->writes++;
    core->word = address == LMHT_REG_LOAD_DATA ? core->word : 0;
    switch (address) {
    case LMHT_REG_CONTROL:
        require(value == 0, "the core is enabled");
        core->enabled = false;
        break;
    case LMHT_REG_COMMAND:
        core->reset = core->reset || (value & LMHT_COMMAND_SOFT_RESET_MASK) != 0;
        core->cleared = (value & LMHT_COMMAND_CLEAR_MASK) != 0;
        break;
    case LMHT_REG_LOAD_SELECT:
        require(!core->enabled && core->reset, "a memory is loaded while frames may be under way");
        require(value < LMHT_MEMORY_COUNT, "a memory is selected that is not there");
        core->select = value;
        break;
    case LMHT_REG_LOAD_ROW:
        core->row = value;
        break;
    case LMHT_REG_LOAD_DATA:
        load_word(core, value);
        break;
    default:
        require(false, "a register is written that has nothing to do with loading");
    }
    return access_core(core);
}

static int core_send(void *context, const uint8_t *bytes, uint32_t length)
{
    (void)context;
    (void)bytes;
    (void)length;
    require(false, "a frame is sent");
    return -1;
}

static int core_receive(void *context, uint32_t *words, uint32_t length, uint32_t *received)
{
    core_t *core = context;
    *received = core->fault == FUZZ_FAULT_ENDLESS ? length : 0;
    memset(words, 0, *received * sizeof *words);
    return access_core(core);
}

/* Load into `core`, which is made new, with a fault. */
static lmht_status_t load(core_t *core, uint32_t fault, uint32_t place, const uint8_t *image, size_t length)
{
    const lmht_port_t port = {core, core_read, core_write, core_send, core_receive};
    memset(core, 0, sizeof *core);
    core->fault = fault;
    core->place = place;
    core->enabled = true;
    core->select = UINT32_MAX;
    return lmht_load_image(&port, image, (uint32_t)length);
}

/* Every memory of the image was written once, word by word, and nothing else. */
static void compare_memories(const core_t *core, const uint8_t *image, const verdict_t *verdict)
{
    uint32_t index;
    for (index = 0; index < LMHT_MEMORY_COUNT; index++) {
        const uint32_t words = fuzz_memories[index].rows * fuzz_memories[index].words;
        const size_t place = place_of(index);
        const size_t data = verdict->section_data[index];
        uint32_t i;
        for (i = 0; i < words; i++) {
            require(core->written[place + i] == (data != 0 ? 1 : 0), "a word is not written, or more than once");
            require(data == 0 || core->contents[place + i] == fuzz_get_word(image, data + i), "a word is wrong");
        }
    }
    require(!core->enabled && core->reset && core->cleared, "the core is not left stopped and cleared");
}

static bool is_expected(const core_t *core, lmht_status_t status)
{
    static const lmht_status_t foreign[IDENTIFICATION] = {LMHT_ERR_NO_CORE, LMHT_ERR_VERSION, LMHT_ERR_DESIGN,
                                                          LMHT_ERR_DESIGN,  LMHT_ERR_DESIGN,  LMHT_ERR_DESIGN};
    switch (core->fault) {
    case FUZZ_FAULT_BUS:
        return status == (core->failed ? LMHT_ERR_BUS : LMHT_OK);
    case FUZZ_FAULT_FOREIGN:
        return core->place < IDENTIFICATION ? status == foreign[core->place] && core->writes == 0 : status == LMHT_OK;
    case FUZZ_FAULT_LOST:
        return status == (core->place != 0 && core->place <= core->data_words ? LMHT_ERR_LOAD_FAILED : LMHT_OK);
    default:
        return status == LMHT_ERR_TIMEOUT && core->data_words == 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static core_t core;
    const uint32_t fault = size > 0 ? data[0] % FUZZ_FAULTS : 0;
    const uint32_t place = size > 1 ? data[1] : 0;
    const size_t length = size > FUZZ_PREFIX ? size - FUZZ_PREFIX : 0;
    uint8_t *allocation;
    uint8_t *image = make_image(data + size - length, length, &allocation);
    const verdict_t verdict = judge(image, length);
    lmht_status_t status;

    fuzz_checked = lmht_check_image(image, (uint32_t)length);
    require((fuzz_checked == LMHT_OK) == (verdict.refusals == 0), "an image is accepted or refused against the rules");
    require(fuzz_checked == LMHT_OK || (verdict.refusals >> fuzz_checked & 1u) != 0, "the reason is another one");

    status = load(&core, FUZZ_FAULT_BUS, NEVER, image, length);
    require(status == fuzz_checked, "load and check say different things");
    if (status == LMHT_OK) {
        compare_memories(&core, image, &verdict);
    } else {
        require(core.accesses == 0, "the core of a refused image is accessed");
    }

    fuzz_loaded = load(&core, fault, place, image, length);
    require(fuzz_checked == LMHT_OK ? is_expected(&core, fuzz_loaded)
                                    : fuzz_loaded == fuzz_checked && core.accesses == 0,
            "a fault of the core is not reported as what it is");
    free(allocation);
    return 0;
}
