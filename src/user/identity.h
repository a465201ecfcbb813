/*
 * identity.h: the users that the answer to a create names.
 */
#ifndef LPU_USER_IDENTITY_H
#define LPU_USER_IDENTITY_H

#include "user/serialize.h"

/*
 * Users with a login in the body of a 2xx answer: an array, or one object; *n is their number, "expected" how many were
 * sent. What is wrong somewhere is believed nowhere. In the current memory context.
 */
extern lpu_user_identity *lpu_created_read(const char *body, size_t length, int expected, int *n);

/*
 * Of them, the one with this login, or NULL: answers are matched by login, never by position, but they usually come in the
 * order of the request. So the search begins at *next, 0 at first, which then is behind the one that was found.
 */
extern const lpu_user_identity *lpu_created_find(const lpu_user_identity *users, int n, int *next, const char *login_name);

#endif
