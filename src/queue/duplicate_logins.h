/*
 * duplicate_logins.h: the logins of the users that are enqueued together.
 */
#ifndef LPU_QUEUE_DUPLICATE_LOGINS_H
#define LPU_QUEUE_DUPLICATE_LOGINS_H

typedef struct lpu_doubles lpu_doubles;

/* One of them, in whatever case it was written. */
typedef struct lpu_login
{
	const char *lowered;		/* as lower() writes it in this database */
	uint32		hash;			/* of that, as in lp_requests_waiting */
	bool		queued;			/* it is unfinished in the queue */
	bool		seen;			/* for the caller: an earlier user has it */
} lpu_login;

/* A text in lower case, as lower() writes it in this database. In the current memory context. */
extern char *lpu_login_lower(const char *login);

/* The hash of a text, as hashtext() computes it. */
extern uint32 lpu_text_hash(const char *text);

/* Collect the logins of n users; NULLs are none. In the current memory context. */
extern lpu_doubles *lpu_doubles_collect(const char *const *logins, int n);

/* That of a user; NULL if it has none. Users with the same login share it. */
extern lpu_login *lpu_doubles_of(const lpu_doubles *logins, int user);

/* Mark those that are unfinished in the queue of an account. The schema is that of the extension. */
extern void lpu_doubles_mark_queued(lpu_doubles *logins, Oid schema, const char *account);

#endif
