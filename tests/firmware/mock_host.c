/*
 * Runs the driver on a mocked core. Commands come line by line from the standard input; every access to the core and every
 * return value is a line on the standard output:
 *
 *   r ADDRESS         w ADDRESS VALUE         s LENGTH SUM         g ASKED GIVEN         = STATUS [VALUE ...]
 *
 * The core reads as a good one does: identification, and a row counter that follows what is loaded.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lmht.h"

#define CHUNKS 64u
#define NEVER UINT32_MAX

static const struct {
    uint32_t words;
} shapes[LMHT_MEMORY_COUNT] = {
#define SHAPE(name, index, width, rows, words) {words},
    LMHT_MEMORIES(SHAPE)
#undef SHAPE
};

typedef struct mock {
    uint32_t registers[LMHT_REGISTERS_END];
    uint32_t words_in_row;
    uint32_t fail_at; /* accesses until one fails */
    uint32_t lose_at; /* words to LOAD_DATA until one is lost */
    uint32_t chunk_count;
    uint32_t chunk_next;
    uint32_t chunks[CHUNKS]; /* words that each call of receive finds */
    uint32_t word;           /* next word that receive gives */
    uint32_t words[CHUNKS * LMHT_RESULT_WORDS];
    bool greedy; /* receive claims one word more than asked for */
} mock_t;

static int fails(mock_t *mock)
{
    return mock->fail_at != NEVER && mock->fail_at-- == 0 ? -1 : 0;
}

static int mock_read(void *context, uint32_t address, uint32_t *value)
{
    mock_t *mock = context;
    printf("r %" PRIu32 "\n", address);
    *value = mock->registers[address];
    return fails(mock);
}

static int mock_write(void *context, uint32_t address, uint32_t value)
{
    mock_t *mock = context;
    printf("w %" PRIu32 " %" PRIu32 "\n", address, value);
    if (address == LMHT_REG_LOAD_DATA) {
        if (mock->lose_at != NEVER && mock->lose_at-- == 0) {
            mock->lose_at = NEVER;
        } else if (++mock->words_in_row == shapes[mock->registers[LMHT_REG_LOAD_SELECT]].words) {
            mock->registers[LMHT_REG_LOAD_ROW]++;
            mock->words_in_row = 0;
        }
    } else {
        mock->registers[address] = value;
        mock->words_in_row = 0;
    }
    return fails(mock);
}

static int mock_send(void *context, const uint8_t *bytes, uint32_t length)
{
    uint32_t sum = 0;
    uint32_t i;
    for (i = 0; i < length; i++) {
        sum += bytes[i];
    }
    printf("s %" PRIu32 " %" PRIu32 "\n", length, sum);
    return fails(context);
}

static int mock_receive(void *context, uint32_t *words, uint32_t length, uint32_t *received)
{
    mock_t *mock = context;
    uint32_t given = mock->chunk_next < mock->chunk_count ? mock->chunks[mock->chunk_next++] : 0;
    uint32_t i;
    if (given > length) {
        /* The rest is there at the next call. */
        mock->chunks[--mock->chunk_next] = given - length;
        given = length;
    }
    for (i = 0; i < given; i++) {
        words[i] = mock->words[mock->word++];
    }
    *received = given + (mock->greedy ? length + 1u : 0u);
    printf("g %" PRIu32 " %" PRIu32 "\n", length, given);
    return fails(mock);
}

static void reset_mock(mock_t *mock)
{
    memset(mock, 0, sizeof *mock);
    mock->fail_at = NEVER;
    mock->lose_at = NEVER;
    mock->registers[LMHT_REG_ID] = LMHT_ID_VALUE;
    mock->registers[LMHT_REG_VERSION] = LMHT_VERSION_VALUE;
    mock->registers[LMHT_REG_DESIGN_HASH_LOW] = LMHT_DESIGN_HASH_LOW;
    mock->registers[LMHT_REG_DESIGN_HASH_HIGH] = LMHT_DESIGN_HASH_HIGH;
    mock->registers[LMHT_REG_FRAME_BYTES] = LMHT_FRAME_BYTES;
    mock->registers[LMHT_REG_CLASSES] = LMHT_CLASSES;
}

/* A file in memory of exactly its size, so that the sanitizer sees every byte read beyond it. */
static uint8_t *read_file(const char *path, uint32_t *length)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes;
    long size;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    rewind(file);
    bytes = malloc(size > 0 ? (size_t)size : 1u);
    if (bytes == NULL || fread(bytes, 1, (size_t)size, file) != (size_t)size) {
        exit(2);
    }
    fclose(file);
    *length = (uint32_t)size;
    return bytes;
}

static void say(lmht_status_t status)
{
    printf("= %d\n", (int)status);
}

/* Every call with every pointer NULL in turn, and with every function of the port missing. */
static void call_with_nothing(const lmht_port_t *good)
{
    lmht_port_t ports[4];
    const lmht_port_t *bad[5] = {NULL};
    const uint8_t frame[LMHT_FRAME_BYTES] = {0};
    lmht_frame_result_t result = {0};
    lmht_errors_t errors;
    uint32_t value;
    int64_t logit;
    bool flag;
    size_t i;
    for (i = 0; i < 4; i++) {
        ports[i] = *good;
        bad[i + 1] = &ports[i];
    }
    ports[0].read = NULL;
    ports[1].write = NULL;
    ports[2].send = NULL;
    ports[3].receive = NULL;
    for (i = 0; i < 5; i++) {
        say(lmht_probe(bad[i]));
        say(lmht_load_image(bad[i], frame, LMHT_IMAGE_BYTES));
        say(lmht_enable(bad[i], true));
        say(lmht_soft_reset(bad[i], true));
        say(lmht_send_frame(bad[i], frame, LMHT_FRAME_BYTES));
        say(lmht_fetch_result(bad[i], &result, &flag));
        say(lmht_run_frame(bad[i], frame, LMHT_FRAME_BYTES, 1, &result));
        say(lmht_enable_interrupts(bad[i], 0));
        say(lmht_take_interrupt(bad[i], &value));
        say(lmht_snapshot(bad[i], true));
        say(lmht_read_register(bad[i], 0, &value));
        say(lmht_read_errors(bad[i], &errors));
    }
    say(lmht_check_image(NULL, LMHT_IMAGE_BYTES));
    say(lmht_load_image(good, NULL, LMHT_IMAGE_BYTES));
    say(lmht_send_frame(good, NULL, LMHT_FRAME_BYTES));
    say(lmht_begin_result(NULL));
    say(lmht_fetch_result(good, NULL, &flag));
    say(lmht_fetch_result(good, &result, NULL));
    say(lmht_run_frame(good, NULL, LMHT_FRAME_BYTES, 1, &result));
    say(lmht_run_frame(good, frame, LMHT_FRAME_BYTES, 1, NULL));
    say(lmht_get_class(NULL, &value, &flag));
    say(lmht_get_class(&result, NULL, &flag));
    say(lmht_get_class(&result, &value, NULL));
    say(lmht_get_logit(NULL, 0, &logit));
    say(lmht_get_logit(&result, 0, NULL));
    say(lmht_get_logit(&result, LMHT_CLASSES, &logit));
    say(lmht_enable_interrupts(good, 4u));
    say(lmht_take_interrupt(good, NULL));
    say(lmht_read_register(good, 0, NULL));
    say(lmht_read_register(good, LMHT_REGISTERS_END, &value));
    say(lmht_read_errors(good, NULL));
    result.received = LMHT_RESULT_WORDS + 1u;
    say(lmht_fetch_result(good, &result, &flag));
}

static void run_command(mock_t *mock, const lmht_port_t *port, lmht_frame_result_t *result, char *line)
{
    char name[32] = "";
    char path[1024] = "";
    uint32_t first = 0;
    uint32_t second = 0;
    uint32_t value = 0;
    bool flag = false;
    lmht_status_t status;
    sscanf(line, "%31s %" SCNu32 " %" SCNu32, name, &first, &second);
    if (strcmp(name, "good") == 0) {
        reset_mock(mock);
    } else if (strcmp(name, "set") == 0) {
        mock->registers[first] = second;
    } else if (strcmp(name, "fail") == 0) {
        mock->fail_at = first;
    } else if (strcmp(name, "lose") == 0) {
        mock->lose_at = first;
    } else if (strcmp(name, "greedy") == 0) {
        mock->greedy = true;
    } else if (strcmp(name, "word") == 0) {
        mock->words[first] = second;
    } else if (strcmp(name, "chunk") == 0) {
        mock->chunks[mock->chunk_count++] = first;
    } else if (strcmp(name, "nothing") == 0) {
        call_with_nothing(port);
    } else if (strcmp(name, "probe") == 0) {
        say(lmht_probe(port));
    } else if (strcmp(name, "check") == 0 || strcmp(name, "load") == 0) {
        uint8_t *image;
        uint32_t length = 0;
        sscanf(line, "%*s %1023s", path);
        image = read_file(path, &length);
        say(name[0] == 'c' ? lmht_check_image(image, length) : lmht_load_image(port, image, length));
        free(image);
    } else if (strcmp(name, "enable") == 0) {
        say(lmht_enable(port, first != 0));
    } else if (strcmp(name, "reset") == 0) {
        say(lmht_soft_reset(port, first != 0));
    } else if (strcmp(name, "send") == 0 || strcmp(name, "run") == 0) {
        uint8_t *frame = malloc(first > 0 ? first : 1u);
        if (frame == NULL) {
            exit(2);
        }
        memset(frame, 3, first);
        say(name[0] == 's' ? lmht_send_frame(port, frame, first)
                           : lmht_run_frame(port, frame, first, second, result));
        free(frame);
    } else if (strcmp(name, "begin") == 0) {
        say(lmht_begin_result(result));
    } else if (strcmp(name, "fetch") == 0) {
        status = lmht_fetch_result(port, result, &flag);
        printf("= %d %d %" PRIu32 "\n", (int)status, (int)flag, result->received);
    } else if (strcmp(name, "class") == 0) {
        status = lmht_get_class(result, &value, &flag);
        printf("= %d %" PRIu32 " %d\n", (int)status, value, (int)flag);
    } else if (strcmp(name, "logit") == 0) {
        int64_t logit = 0;
        status = lmht_get_logit(result, first, &logit);
        printf("= %d %" PRId64 "\n", (int)status, logit);
    } else if (strcmp(name, "interrupts") == 0) {
        say(lmht_enable_interrupts(port, first));
    } else if (strcmp(name, "take") == 0) {
        status = lmht_take_interrupt(port, &value);
        printf("= %d %" PRIu32 "\n", (int)status, value);
    } else if (strcmp(name, "snapshot") == 0) {
        say(lmht_snapshot(port, first != 0));
    } else if (strcmp(name, "register") == 0) {
        status = lmht_read_register(port, first, &value);
        printf("= %d %" PRIu32 "\n", (int)status, value);
    } else if (strcmp(name, "errors") == 0) {
        lmht_errors_t errors = {0};
        status = lmht_read_errors(port, &errors);
        printf("= %d %d %d %" PRIu32 " %" PRIu32 " %" PRIu32 "\n", (int)status, (int)errors.any,
               (int)errors.has_first, errors.first_stage, errors.first_bits, errors.first_cycle);
    } else {
        fprintf(stderr, "unknown command %s\n", name);
        exit(2);
    }
}

int main(void)
{
    static mock_t mock;
    static lmht_frame_result_t result;
    const lmht_port_t port = {&mock, mock_read, mock_write, mock_send, mock_receive};
    char line[1100];
    reset_mock(&mock);
    while (fgets(line, sizeof line, stdin) != NULL) {
        run_command(&mock, &port, &result, line);
    }
    return 0;
}
