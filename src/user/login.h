/*
 * login.h: a set of login names, upper and lower case alike.
 */
#ifndef LPU_USER_LOGIN_H
#define LPU_USER_LOGIN_H

typedef struct lpu_logins lpu_logins;

/* An empty set in the current memory context. */
extern lpu_logins *lpu_logins_new(void);

/* Add one, in the database's encoding. False: it was there. */
extern bool lpu_logins_add(lpu_logins *logins, const char *login);
extern bool lpu_logins_has(const lpu_logins *logins, const char *login);

#endif
