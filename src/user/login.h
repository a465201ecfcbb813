/*
 * login.h: login names: what they may hold, when two are the same, and sets of them.
 */
#ifndef LPU_USER_LOGIN_H
#define LPU_USER_LOGIN_H

/* Longest login in characters, counted after normalization. */
#define LPU_LOGIN_CHARACTERS 254

/* All texts are in the database's encoding; results are in the current memory context. */
extern char *lpu_text_nfc(const char *text);
extern char *lpu_login_fold(const char *login);
extern char *lpu_login_key(const char *login);
extern char *lpu_login_fold_utf8(const char *login);	/* in UTF-8, whatever
														 * the database's
														 * encoding */
extern const char *lpu_login_check(const char *login);

typedef struct LpuLogins LpuLogins;

/* Return an empty set in the current memory context. */
extern LpuLogins *lpu_logins_new(void);

/* Add one. False: it was there. */
extern bool lpu_logins_add(LpuLogins *logins, const char *login);
extern bool lpu_logins_has(const LpuLogins *logins, const char *login);

#endif
