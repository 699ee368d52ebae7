/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target without the fuzzer: nothing, then the files named, each fed to it once. What the target checks, and the sanitizers,
 * end it. Linked with each tests/fuzz/fuzz_X.c into build/unit/fuzz_X.
 */
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **names)
{
	static uint8_t data[65536];

	LLVMFuzzerTestOneInput(data, 0);
	for (int i = 1; i < count; i++) {
		FILE *file = fopen(names[i], "rb");

		if (!file) {
			perror(names[i]);
			return 1;
		}
		fprintf(stderr, "%s\n", names[i]);
		LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), file));
		fclose(file);
	}
	return 0;
}
