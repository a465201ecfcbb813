/*
 * character.h: what Unicode says of a character.
 */
#ifndef LPU_BASE_CHARACTER_H
#define LPU_BASE_CHARACTER_H

#include "mb/pg_wchar.h"

/*
 * Return true for characters of the categories Cc and Cf, which are invisible or change how
 * other characters are shown.
 */
extern bool lpu_character_is_control(pg_wchar c);

/* Return true for characters of the categories Zs, Zl and Zp. */
extern bool lpu_character_is_separator(pg_wchar c);

/* Return the character after simple case folding. */
extern pg_wchar lpu_character_fold(pg_wchar c);

#endif
