/* Runs the fuzz target on files, without libFuzzer. For each, a line: status of the check, status of the load, name. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz_image.h"

#define LONGEST (1u << 20)

int main(int count, char **names)
{
    static uint8_t bytes[LONGEST];
    int i;
    for (i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        size_t size;
        if (file == NULL) {
            fprintf(stderr, "cannot read %s\n", names[i]);
            return 2;
        }
        size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        (void)LLVMFuzzerTestOneInput(bytes, size);
        printf("%d %d %s\n", (int)fuzz_checked, (int)fuzz_loaded, names[i]);
        (void)fflush(stdout);
    }
    return 0;
}
