/*
 * character.c: what Unicode says of a character.
 *
 * The tables in character_table.h are of one version of Unicode, so that the
 * result depends neither on the locale nor on the release of PostgreSQL.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/character.h"
#include "base/character_table.h"

static bool
is_in_ranges(const LpuCharacterRange *ranges, int n, pg_wchar c)
{
	int			i;

	for (i = 0; i < n && ranges[i].first <= c; i++)
		if (c <= ranges[i].last)
			return true;
	return false;
}

/*
 * Return true for characters of the categories Cc and Cf, which are invisible or change how
 * other characters are shown.
 */
bool
lpu_character_is_control(pg_wchar c)
{
	return is_in_ranges(controls, lengthof(controls), c);
}

/* Return true for characters of the categories Zs, Zl and Zp. */
bool
lpu_character_is_separator(pg_wchar c)
{
	return is_in_ranges(separators, lengthof(separators), c);
}

/* Return the character after simple case folding. */
pg_wchar
lpu_character_fold(pg_wchar c)
{
	int			low = 0;
	int			high = lengthof(folds) - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		const LpuFoldRange *range = &folds[middle];

		if (c < range->first)
			high = middle - 1;
		else if (c > range->last)
			low = middle + 1;
		else
			return (c - range->first) % range->step == 0 ? c + range->delta : c;
	}
	return c;
}
