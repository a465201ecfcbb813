/*
 * reader_fuzz.c: the reader of lists against json-c, over documents that libFuzzer makes up; see fuzz.sh.
 */
#include <stdlib.h>

#include "reader_compare.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t	seed = 0;
	size_t		i;

	/* the same document is always read in the same way */
	for (i = 0; i < size; i++)
		seed = (seed ^ data[i]) * UINT64_C(0x100000001b3);
	if (!compare_document((const char *) data, size, seed))
		abort();
	return 0;
}
