/* Driver of an lmht design. lmht.h says what each function does. */
#include "lmht.h"

#include <stddef.h>

/* Layout of image.bin, in words of 32 bits. */
#define HEADER_WORDS 6u
#define SECTION_WORDS 3u
#define WORD_BYTES 4u

/* Words taken from a core that was reset before it is said to be out of order: far more than it can hold. */
#define DRAIN_WORDS (16u * LMHT_RESULT_WORDS)
#define DRAIN_CHUNK 16u

/* A memory of the design: rows, and words of each. */
typedef struct memory {
    uint32_t rows;
    uint32_t words;
} memory_t;

#define MEMORY(name, index, width, rows, words) {rows, words},
static const memory_t memories[LMHT_MEMORY_COUNT] = {LMHT_MEMORIES(MEMORY)};
#undef MEMORY

static bool is_port(const lmht_port_t *port)
{
    return port != NULL && port->read != NULL && port->write != NULL && port->send != NULL && port->receive != NULL;
}

static lmht_status_t read_register(const lmht_port_t *port, uint32_t address, uint32_t *value)
{
    return port->read(port->context, address, value) == 0 ? LMHT_OK : LMHT_ERR_BUS;
}

static lmht_status_t write_register(const lmht_port_t *port, uint32_t address, uint32_t value)
{
    return port->write(port->context, address, value) == 0 ? LMHT_OK : LMHT_ERR_BUS;
}

static lmht_status_t expect(const lmht_port_t *port, uint32_t address, uint32_t wanted, lmht_status_t otherwise)
{
    uint32_t value = 0;
    const lmht_status_t status = read_register(port, address, &value);
    if (status != LMHT_OK) {
        return status;
    }
    return value == wanted ? LMHT_OK : otherwise;
}

lmht_status_t lmht_probe(const lmht_port_t *port)
{
    static const struct {
        uint32_t address;
        uint32_t wanted;
        lmht_status_t otherwise;
    } registers[] = {
        {LMHT_REG_ID, LMHT_ID_VALUE, LMHT_ERR_NO_CORE},
        {LMHT_REG_VERSION, LMHT_VERSION_VALUE, LMHT_ERR_VERSION},
        {LMHT_REG_DESIGN_HASH_LOW, LMHT_DESIGN_HASH_LOW, LMHT_ERR_DESIGN},
        {LMHT_REG_DESIGN_HASH_HIGH, LMHT_DESIGN_HASH_HIGH, LMHT_ERR_DESIGN},
        {LMHT_REG_FRAME_BYTES, LMHT_FRAME_BYTES, LMHT_ERR_DESIGN},
        {LMHT_REG_CLASSES, LMHT_CLASSES, LMHT_ERR_DESIGN},
    };
    size_t i;
    lmht_status_t status = LMHT_OK;
    if (!is_port(port)) {
        return LMHT_ERR_ARGUMENT;
    }
    for (i = 0; i < sizeof registers / sizeof registers[0] && status == LMHT_OK; i++) {
        status = expect(port, registers[i].address, registers[i].wanted, registers[i].otherwise);
    }
    return status;
}

/* Word `index` of the image, little-endian. */
static uint32_t image_word(const uint8_t *image, uint32_t index)
{
    const uint8_t *bytes = image + (size_t)index * WORD_BYTES;
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* CRC-32 as in zlib, four bits at a time: a table of 16 words is small enough for any controller. */
static uint32_t crc32(const uint8_t *bytes, uint32_t length)
{
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
    };
    uint32_t crc = 0xffffffffu;
    uint32_t i;
    for (i = 0; i < length; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15u];
        crc = crc >> 4 ^ table[crc & 15u];
    }
    return ~crc;
}

/* The sections are memories of the design, each at most once, and fill the image exactly. */
static lmht_status_t check_sections(const uint8_t *image, uint32_t end)
{
    uint32_t at = HEADER_WORDS;
    uint32_t smallest = 0; /* index that may come next: they ascend, so none comes twice */
    uint32_t section;
    for (section = 0; section < LMHT_IMAGE_SECTIONS; section++) {
        uint32_t index;
        if (end - at < SECTION_WORDS) {
            return LMHT_ERR_IMAGE_LAYOUT;
        }
        index = image_word(image, at);
        if (index < smallest || index >= LMHT_MEMORY_COUNT || image_word(image, at + 1) != memories[index].words ||
            image_word(image, at + 2) != memories[index].rows) {
            return LMHT_ERR_IMAGE_LAYOUT;
        }
        at += SECTION_WORDS;
        if ((end - at) / memories[index].words < memories[index].rows) {
            return LMHT_ERR_IMAGE_LAYOUT;
        }
        at += memories[index].words * memories[index].rows;
        smallest = index + 1;
    }
    return at == end ? LMHT_OK : LMHT_ERR_IMAGE_LAYOUT;
}

lmht_status_t lmht_check_image(const uint8_t *image, uint32_t length)
{
    const uint32_t words = length / WORD_BYTES;
    if (image == NULL) {
        return LMHT_ERR_ARGUMENT;
    }
    if (length % WORD_BYTES != 0 || words <= HEADER_WORDS) {
        return LMHT_ERR_IMAGE_LENGTH;
    }
    if (image_word(image, 0) != LMHT_IMAGE_MAGIC || image_word(image, 1) != LMHT_IMAGE_FORMAT) {
        return LMHT_ERR_IMAGE_FORMAT;
    }
    if (image_word(image, 4) != words) {
        return LMHT_ERR_IMAGE_LENGTH;
    }
    if (image_word(image, words - 1) != crc32(image, length - WORD_BYTES)) {
        return LMHT_ERR_IMAGE_CORRUPTED;
    }
    if (image_word(image, 2) != LMHT_DESIGN_HASH_LOW || image_word(image, 3) != LMHT_DESIGN_HASH_HIGH) {
        return LMHT_ERR_DESIGN;
    }
    if (length != LMHT_IMAGE_BYTES || image_word(image, 5) != LMHT_IMAGE_SECTIONS) {
        return LMHT_ERR_IMAGE_LAYOUT;
    }
    return check_sections(image, words - 1);
}

/* Write one section of a checked image; `at` is its first word and moves behind it. */
static lmht_status_t load_section(const lmht_port_t *port, const uint8_t *image, uint32_t *at)
{
    const uint32_t index = image_word(image, *at);
    const uint32_t words = memories[index].words * memories[index].rows;
    lmht_status_t status;
    uint32_t i;
    *at += SECTION_WORDS;
    status = write_register(port, LMHT_REG_LOAD_SELECT, index);
    if (status == LMHT_OK) {
        status = write_register(port, LMHT_REG_LOAD_ROW, 0);
    }
    for (i = 0; i < words && status == LMHT_OK; i++) {
        status = write_register(port, LMHT_REG_LOAD_DATA, image_word(image, *at + i));
    }
    *at += words;
    if (status == LMHT_OK) {
        status = expect(port, LMHT_REG_LOAD_ROW, memories[index].rows, LMHT_ERR_LOAD_FAILED);
    }
    return status;
}

lmht_status_t lmht_load_image(const lmht_port_t *port, const uint8_t *image, uint32_t length)
{
    uint32_t at = HEADER_WORDS;
    uint32_t section;
    lmht_status_t status;
    if (!is_port(port)) {
        return LMHT_ERR_ARGUMENT;
    }
    status = lmht_check_image(image, length);
    if (status == LMHT_OK) {
        status = lmht_probe(port);
    }
    if (status == LMHT_OK) {
        status = lmht_enable(port, false);
    }
    if (status == LMHT_OK) {
        status = lmht_soft_reset(port, true);
    }
    for (section = 0; section < LMHT_IMAGE_SECTIONS && status == LMHT_OK; section++) {
        status = load_section(port, image, &at);
    }
    if (status == LMHT_OK) {
        status = write_register(port, LMHT_REG_COMMAND, LMHT_COMMAND_CLEAR_MASK);
    }
    return status;
}

lmht_status_t lmht_enable(const lmht_port_t *port, bool enable)
{
    if (!is_port(port)) {
        return LMHT_ERR_ARGUMENT;
    }
    return write_register(port, LMHT_REG_CONTROL, enable ? LMHT_CONTROL_ENABLE_MASK : 0);
}

lmht_status_t lmht_soft_reset(const lmht_port_t *port, bool abandon)
{
    uint32_t words[DRAIN_CHUNK];
    uint32_t drained = 0;
    uint32_t received = 1;
    lmht_status_t status;
    if (!is_port(port)) {
        return LMHT_ERR_ARGUMENT;
    }
    status = write_register(port, LMHT_REG_COMMAND,
                            LMHT_COMMAND_SOFT_RESET_MASK | (abandon ? LMHT_COMMAND_NEW_FRAME_MASK : 0));
    while (status == LMHT_OK && received != 0) {
        if (drained >= DRAIN_WORDS) {
            return LMHT_ERR_TIMEOUT;
        }
        received = 0;
        if (port->receive(port->context, words, DRAIN_CHUNK, &received) != 0 || received > DRAIN_CHUNK) {
            status = LMHT_ERR_BUS;
        }
        drained += received;
    }
    return status;
}

lmht_status_t lmht_send_frame(const lmht_port_t *port, const uint8_t *frame, uint32_t length)
{
    if (!is_port(port) || frame == NULL) {
        return LMHT_ERR_ARGUMENT;
    }
    if (length != LMHT_FRAME_BYTES) {
        return LMHT_ERR_FRAME_LENGTH;
    }
    return port->send(port->context, frame, length) == 0 ? LMHT_OK : LMHT_ERR_BUS;
}

lmht_status_t lmht_begin_result(lmht_frame_result_t *result)
{
    if (result == NULL) {
        return LMHT_ERR_ARGUMENT;
    }
    result->received = 0;
    return LMHT_OK;
}

lmht_status_t lmht_fetch_result(const lmht_port_t *port, lmht_frame_result_t *result, bool *complete)
{
    uint32_t missing;
    if (!is_port(port) || result == NULL || complete == NULL || result->received > LMHT_RESULT_WORDS) {
        return LMHT_ERR_ARGUMENT;
    }
    missing = LMHT_RESULT_WORDS - result->received;
    if (missing != 0) {
        uint32_t received = 0;
        if (port->receive(port->context, result->words + result->received, missing, &received) != 0 ||
            received > missing) {
            return LMHT_ERR_BUS;
        }
        result->received += received;
        missing -= received;
    }
    *complete = missing == 0;
    return LMHT_OK;
}

lmht_status_t lmht_run_frame(const lmht_port_t *port, const uint8_t *frame, uint32_t length, uint32_t polls,
                             lmht_frame_result_t *result)
{
    bool complete = false;
    uint32_t poll;
    lmht_status_t status;
    if (result == NULL) {
        return LMHT_ERR_ARGUMENT;
    }
    status = lmht_send_frame(port, frame, length);
    if (status == LMHT_OK) {
        status = lmht_begin_result(result);
    }
    for (poll = 0; poll < polls && status == LMHT_OK && !complete; poll++) {
        status = lmht_fetch_result(port, result, &complete);
    }
    return status == LMHT_OK && !complete ? LMHT_ERR_TIMEOUT : status;
}

lmht_status_t lmht_get_class(const lmht_frame_result_t *result, uint32_t *winner, bool *flagged)
{
    uint32_t trailer;
    if (result == NULL || winner == NULL || flagged == NULL) {
        return LMHT_ERR_ARGUMENT;
    }
    if (result->received != LMHT_RESULT_WORDS) {
        return LMHT_ERR_INCOMPLETE;
    }
    trailer = result->words[LMHT_RESULT_WORDS - 1u];
    *winner = trailer >> LMHT_TRAILER_WINNER_OFFSET & ((1u << LMHT_TRAILER_WINNER_WIDTH) - 1u);
    *flagged = (trailer >> LMHT_TRAILER_ERROR_OFFSET & 1u) != 0;
    return LMHT_OK;
}

lmht_status_t lmht_get_logit(const lmht_frame_result_t *result, uint32_t winner, int64_t *logit)
{
    uint64_t bits;
    if (result == NULL || logit == NULL || winner >= LMHT_CLASSES) {
        return LMHT_ERR_ARGUMENT;
    }
    if (result->received != LMHT_RESULT_WORDS) {
        return LMHT_ERR_INCOMPLETE;
    }
    bits = result->words[winner * LMHT_WORDS_PER_LOGIT];
#if LMHT_WORDS_PER_LOGIT == 1u
    bits |= (bits >> 31 & 1u) != 0 ? 0xffffffff00000000u : 0u;
#else
    bits |= (uint64_t)result->words[winner * LMHT_WORDS_PER_LOGIT + 1u] << 32;
#endif
    /* Two's complement to a number without a conversion that C leaves to the implementation. */
    *logit = bits >> 63 != 0 ? -(int64_t)~bits - 1 : (int64_t)bits;
    return LMHT_OK;
}

lmht_status_t lmht_enable_interrupts(const lmht_port_t *port, uint32_t causes)
{
    if (!is_port(port) || (causes & ~(LMHT_INTERRUPT_FRAME_DONE | LMHT_INTERRUPT_ERROR)) != 0) {
        return LMHT_ERR_ARGUMENT;
    }
    return write_register(port, LMHT_REG_INTERRUPT_ENABLE, causes);
}

lmht_status_t lmht_take_interrupt(const lmht_port_t *port, uint32_t *causes)
{
    uint32_t seen = 0;
    lmht_status_t status;
    if (!is_port(port) || causes == NULL) {
        return LMHT_ERR_ARGUMENT;
    }
    status = read_register(port, LMHT_REG_INTERRUPT_CAUSE, &seen);
    if (status == LMHT_OK && seen != 0) {
        /* Only what is reported is cleared: a cause that comes in between stays. */
        status = write_register(port, LMHT_REG_INTERRUPT_CAUSE, seen);
    }
    if (status == LMHT_OK) {
        *causes = seen;
    }
    return status;
}

lmht_status_t lmht_snapshot(const lmht_port_t *port, bool clear)
{
    if (!is_port(port)) {
        return LMHT_ERR_ARGUMENT;
    }
    return write_register(port, LMHT_REG_COMMAND,
                          LMHT_COMMAND_SNAPSHOT_MASK | (clear ? LMHT_COMMAND_CLEAR_MASK : 0));
}

lmht_status_t lmht_read_register(const lmht_port_t *port, uint32_t address, uint32_t *value)
{
    uint32_t found = 0;
    lmht_status_t status;
    if (!is_port(port) || value == NULL || address >= LMHT_REGISTERS_END) {
        return LMHT_ERR_ARGUMENT;
    }
    status = read_register(port, address, &found);
    if (status == LMHT_OK) {
        *value = found;
    }
    return status;
}

lmht_status_t lmht_read_errors(const lmht_port_t *port, lmht_errors_t *errors)
{
    uint32_t state = 0;
    uint32_t first = 0;
    uint32_t cycle = 0;
    lmht_status_t status;
    if (!is_port(port) || errors == NULL) {
        return LMHT_ERR_ARGUMENT;
    }
    status = read_register(port, LMHT_REG_STATUS, &state);
    if (status == LMHT_OK) {
        status = read_register(port, LMHT_REG_FIRST_ERROR, &first);
    }
    if (status == LMHT_OK) {
        status = read_register(port, LMHT_REG_FIRST_ERROR_CYCLE, &cycle);
    }
    if (status == LMHT_OK) {
        errors->any = (state & LMHT_STATUS_ERROR_MASK) != 0;
        errors->has_first = (first & LMHT_FIRST_ERROR_VALID_MASK) != 0;
        errors->first_stage = (first & LMHT_FIRST_ERROR_STAGE_MASK) >> LMHT_FIRST_ERROR_STAGE_OFFSET;
        errors->first_bits = (first & LMHT_FIRST_ERROR_ERRORS_MASK) >> LMHT_FIRST_ERROR_ERRORS_OFFSET;
        errors->first_cycle = cycle;
    }
    return status;
}
