/*
 * identity.c: the users that the answer to a create names.
 *
 * No tree is built of an answer that is only looked through for logins and ids.
 */
#include "postgres.h"

#include "base/encoding.h"
#include "json/array_reader.h"
#include "user/identity.h"

lpu_user_identity *
lpu_created_read(const char *body, size_t length, int expected, int *n)
{
	static const char *const names[] = {"loginName", "id"};
	lpu_reader *reader = lpu_reader_new(names, lengthof(names), false);
	lpu_reader_state state;
	int			room = Max(expected, 1);
	lpu_user_identity *users = palloc(room * sizeof(lpu_user_identity));

	*n = 0;
	lpu_reader_feed(reader, body, length);
	lpu_reader_end(reader);
	while ((state = lpu_reader_next(reader)) == LPU_READER_ELEMENT)
	{
		const lpu_value *values = lpu_reader_values(reader);
		const char *login = lpu_value_text(&values[0]);
		const char *id = lpu_value_text(&values[1]);

		if (login == NULL)
			continue;
		if (*n == room)
		{
			room *= 2;
			users = repalloc(users, room * sizeof(lpu_user_identity));
		}
		users[*n].login_name = lpu_text_from_utf8(login);
		if (id == NULL || !lpu_text_as_int64(id, &users[*n].id))
			users[*n].id = 0;
		++*n;
	}
	if (state != LPU_READER_END)
		*n = 0;
	return users;
}

const lpu_user_identity *
lpu_created_find(const lpu_user_identity *users, int n, int *next, const char *login_name)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		int			at = (*next + i) % n;

		if (pg_strcasecmp(users[at].login_name, login_name) != 0)
			continue;
		*next = at + 1;
		return &users[at];
	}
	return NULL;
}
