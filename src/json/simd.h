/*
 * simd.h: the plain text of a string in JSON, passed over 16 or 8 bytes at a time.
 */
#ifndef LPU_JSON_SIMD_H
#define LPU_JSON_SIMD_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "port/pg_bitutils.h"

/*
 * Where the text that begins at p ends: at a quote, a backslash, a control
 * character, or where the bytes end. *high is set if a byte of it is not
 * ASCII.
 */
static pg_attribute_always_inline const char *
lpu_plain_end(const char *p, const char *end, bool *high)
{
#ifdef __SSE2__
	for (; end - p >= 16; p += 16)
	{
		__m128i		bytes = _mm_loadu_si128((const __m128i *) p);
		__m128i		quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
		__m128i		backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
		__m128i		controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
		uint32		stops = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, backslashes),
														   controls));
		uint32		highs = _mm_movemask_epi8(bytes);

		/* only those before the first stop count */
		*high |= (highs & ~stops & (stops - 1)) != 0;
		if (stops != 0)
			return p + pg_rightmost_one_pos32(stops);
	}
#else
	for (; end - p >= 8; p += 8)
	{
		const uint64 ones = UINT64CONST(0x0101010101010101);
		uint64		bytes;
		uint64		quotes;
		uint64		backslashes;
		uint64		controls;

		/*
		 * subtraction sets the highest bit of the lowest byte that is too
		 * small; above that one it may err
		 */
		memcpy(&bytes, p, sizeof(bytes));
		quotes = (bytes ^ ones * '"') - ones;
		backslashes = (bytes ^ ones * '\\') - ones;
		controls = bytes - ones * 0x20;
		if ((quotes | backslashes | controls) & ~bytes & ones * 0x80)
			break;
		*high |= (bytes & ones * 0x80) != 0;
	}
#endif
	for (; p < end && *p != '"' && *p != '\\' && (unsigned char) *p >= 0x20; p++)
		*high |= (unsigned char) *p >= 0x80;
	return p;
}

#endif
