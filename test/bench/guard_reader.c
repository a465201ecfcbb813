/*
 * guard_reader.c: reads a list of users from standard input, as a scan does, for guard.sh to count its instructions.
 *
 * Prints how many users there were.
 */
#include "postgres_fe.h"

#include "../standalone.h"
#include "json/array_reader.h"

/* As libcurl hands them over. */
#define PIECE 16384

int
main(void)
{
	static const char *const names[] = {"id", "loginName", "email", "isEnabled"};
	LpuReader *reader = lpu_reader_new(names, lengthof(names), false);
	char		piece[PIECE];
	size_t		length;
	int			users = 0;

	while ((length = fread(piece, 1, sizeof(piece), stdin)) > 0)
	{
		lpu_reader_feed(reader, piece, length);
		while (lpu_reader_next(reader) == LPU_READER_ELEMENT)
			users++;
	}
	printf("%d\n", users);
	return 0;
}
