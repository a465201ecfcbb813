/*
 * login.c: login names: what they may hold, when two are the same, and sets of them.
 *
 * Accounts store logins in a form of their own: trimmed, composed, in lower case. Here two
 * logins are equal if they are equal after trimming, normalization to NFC and case folding.
 * Both follow Unicode and not the locale of the database, so that the result is the same
 * everywhere and after each upgrade (base/character.h); normalization is PostgreSQL's own.  The
 * names of an account of 100,000 users take some 10 MB in a set.
 */
#include "postgres.h"

#include "common/string.h"
#include "common/unicode_norm.h"
#include "mb/pg_wchar.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/character.h"
#include "base/encoding.h"
#include "base/text_table.h"
#include "user/login.h"

/*
 * Longer texts are not normalized: the time for a long run of combining marks
 * grows with its square.  No login of 254 characters is as long: a composed
 * character has at most four parts of four bytes.
 */
#define MAX_NORMALIZED_BYTES 8192

struct LpuLogins
{
	MemoryContext context;
	HTAB	   *names;			/* of char *, folded */
};

/* ----- normalization ----- */

/* Return the characters of a valid UTF-8 text in NFC, terminated by 0, and their number. */
static pg_wchar *
normalize_utf8(const char *utf8, int *n)
{
	pg_wchar   *characters = palloc((strlen(utf8) + 1) * sizeof(pg_wchar));
	const unsigned char *p;
	int			i = 0;

	for (p = (const unsigned char *) utf8; *p; p += pg_utf_mblen(p))
		characters[i++] = utf8_to_unicode(p);
	characters[i] = 0;
	if (unicode_is_normalized_quickcheck(UNICODE_NFC, characters) != UNICODE_NORM_QC_YES)
		characters = unicode_normalize(UNICODE_NFC, characters);
	for (*n = 0; characters[*n] != 0;)
		++* n;
	return characters;
}

/*
 * Likewise of a text in the database's encoding.  NULL if it is too long, or
 * not valid in its encoding.
 */
static pg_wchar *
normalize(const char *text, int *n)
{
	size_t		length = strlen(text);
	char	   *utf8 = length <= MAX_NORMALIZED_BYTES ? lpu_text_to_utf8(text, &length) : NULL;

	return utf8 ? normalize_utf8(utf8, n) : NULL;
}

/* In UTF-8. */
static char *
write_characters(const pg_wchar *characters, int n)
{
	char	   *utf8 = palloc((size_t) n * 4 + 1);
	unsigned char *out = (unsigned char *) utf8;
	int			i;

	for (i = 0; i < n; i++)
	{
		unicode_to_utf8(characters[i], out);
		out += pg_utf_mblen(out);
	}
	*out = '\0';
	return utf8;
}

/* ----- logins ----- */

static const char too_long[] = "must have at most 254 characters";
static const char has_control[] = "must not hold the control or format character U+%04X";
static const char has_blank[] = "must not begin or end with a blank";

/*
 * Return a text in Unicode normalization form C, or unchanged if it is longer
 * than 8 kB or is not valid in its encoding.
 */
char *
lpu_text_nfc(const char *text)
{
	pg_wchar   *characters;
	int			n;

	if (pg_is_ascii(text) || (characters = normalize(text, &n)) == NULL)
		return pstrdup(text);
	return lpu_text_from_utf8(write_characters(characters, n));
}

/* ASCII, and what cannot be read as characters. */
static char *
fold_bytes(const char *login)
{
	size_t		length = strlen(login);
	char	   *folded;
	char	   *c;

	while (length > 0 && login[length - 1] == ' ')
		length--;
	for (; length > 0 && *login == ' '; length--)
		login++;
	folded = pnstrdup(login, length);
	for (c = folded; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	return folded;
}

/* In UTF-8. */
static char *
fold_characters(pg_wchar *characters, int n)
{
	int			start = 0;
	int			i;

	while (n > 0 && lpu_character_is_separator(characters[n - 1]))
		n--;
	while (start < n && lpu_character_is_separator(characters[start]))
		start++;
	for (i = start; i < n; i++)
		characters[i] = lpu_character_fold(characters[i]);
	return write_characters(characters + start, n - start);
}

/* Return the form that all spellings of a login share. */
char *
lpu_login_fold(const char *login)
{
	pg_wchar   *characters;
	int			n;

	if (pg_is_ascii(login) || (characters = normalize(login, &n)) == NULL)
		return fold_bytes(login);
	return lpu_text_from_utf8(fold_characters(characters, n));
}

/* Return the same in UTF-8, as lpu_login_fold_utf8() writes it.  Needs a transaction. */
char *
lpu_login_key(const char *login)
{
	char	   *folded = lpu_login_fold(login);
	size_t		length = strlen(folded);
	char	   *utf8 = lpu_text_to_utf8(folded, &length);

	return utf8 ? utf8 : folded;
}

/* The same for a login in valid UTF-8.  Needs no transaction. */
char *
lpu_login_fold_utf8(const char *login)
{
	pg_wchar   *characters;
	int			n;

	if (pg_is_ascii(login) || strlen(login) > MAX_NORMALIZED_BYTES)
		return fold_bytes(login);
	characters = normalize_utf8(login, &n);
	return fold_characters(characters, n);
}

/* Of ASCII, as most logins are. */
static const char *
check_ascii(const char *login)
{
	size_t		length = strlen(login);
	const char *c;

	if (length > LPU_LOGIN_CHARACTERS)
		return too_long;
	for (c = login; *c; c++)
		if (*c < ' ' || *c == 0x7f)
			return psprintf(has_control, *c);
	return length > 0 && (*login == ' ' || login[length - 1] == ' ') ? has_blank : NULL;
}

/* Return what is wrong with a login, as a predicate to its name; NULL if nothing is. */
const char *
lpu_login_check(const char *login)
{
	pg_wchar   *characters;
	int			n;
	int			i;

	if (pg_is_ascii(login))
		return check_ascii(login);
	if (strlen(login) > MAX_NORMALIZED_BYTES)
		return too_long;
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return "must be ASCII in a database with encoding SQL_ASCII";
	characters = normalize(login, &n);
	if (characters == NULL)
		return "cannot be converted to UTF-8";
	if (n > LPU_LOGIN_CHARACTERS)
		return too_long;
	for (i = 0; i < n; i++)
		if (lpu_character_is_control(characters[i]))
			return psprintf(has_control, characters[i]);
	if (n > 0 && (lpu_character_is_separator(characters[0]) ||
				  lpu_character_is_separator(characters[n - 1])))
		return has_blank;
	return NULL;
}

/* ----- sets ----- */

/* Return an empty set in the current memory context. */
LpuLogins *
lpu_logins_new(void)
{
	LpuLogins  *logins = palloc(sizeof(LpuLogins));

	logins->context = CurrentMemoryContext;
	logins->names = lpu_text_table("lpusers logins", sizeof(char *), 256);
	return logins;
}

/* Add a login. Return false if it was in the set. */
bool
lpu_logins_add(LpuLogins *logins, const char *login)
{
	MemoryContext caller = MemoryContextSwitchTo(logins->context);
	char	   *name = lpu_login_fold(login);
	bool		found;

	(void) hash_search(logins->names, &name, HASH_ENTER, &found);
	if (found)
		pfree(name);
	MemoryContextSwitchTo(caller);
	return !found;
}

/* Return true if the login is in the set. */
bool
lpu_logins_has(const LpuLogins *logins, const char *login)
{
	char	   *name = lpu_login_fold(login);
	bool		found;

	(void) hash_search(logins->names, &name, HASH_FIND, &found);
	pfree(name);
	return found;
}
