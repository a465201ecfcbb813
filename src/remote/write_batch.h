/*
 * write_batch.h: the writing requests of a statement on a foreign table.
 */
#ifndef LPU_REMOTE_WRITE_BATCH_H
#define LPU_REMOTE_WRITE_BATCH_H

#include "nodes/pg_list.h"

#include "api/users_api.h"
#include "base/account_lock.h"
#include "base/compat.h"
#include "remote/foreign_table.h"
#include "user/serialize.h"

typedef struct LpuWriterState
{
	const LpuForeignTable *table;
	const LpuOptions *options;
	Oid			role;			/* whose mapping is used */
	LpuMethod	method;
	const char *what;			/* for messages: "create users" */
	const char *hint;			/* ... how to go on when some may have been
								 * carried out */
	int64		done;			/* users of this statement that the account
								 * has carried out */
	int64		requests;		/* writing ones, and those that look at the
								 * account for them */
	int64		bytes;			/* of their bodies, in both directions */
	double		ms;				/* waiting for them */
} LpuWriterState;

/* One request for some of the users. */
typedef struct LpuWriteRequest
{
	char	   *body;			/* in UTF-8 */
	size_t		body_length;
	int64		if_match;		/* -1: whatever the revision */
	LpuUserIdentity *users;		/* whom it is about; after a create with their
								 * ids */
	int			nusers;
	int			ngone;			/* users that were left out, since they are no
								 * longer there */
	List	   *secrets;		/* C strings that must not appear in an error */
	const char *error;			/* out: what the account said */
	struct LpuRecord *record;	/* out: or NULL */
	struct LpuLoggedCall *call; /* private: of one that was started */
} LpuWriteRequest;

/*
 * Send a writing request as any direct call: recorded, and with a WARNING if the transaction
 * aborts.
 */
extern LpuApiAnswer *lpu_writer_send(LpuWriterState *writer, LpuWriteRequest *write);

/* One of several requests that are in flight at a time: start, wait, finish. */
extern void lpu_writer_start(LpuWriterState *writer, LpuWriteRequest *write);
extern bool lpu_writer_done(const LpuWriteRequest *write);
extern LpuApiAnswer *lpu_writer_finish(LpuWriterState *writer, LpuWriteRequest *write);
extern void lpu_writer_expire(LpuWriteRequest *write);
extern bool lpu_writer_renewed(const LpuWriteRequest *write);

/* Raise that a request was not carried out, or that its outcome is unknown. */
pg_noreturn extern void lpu_writer_raise_refusal(const LpuWriterState *writer,
												 const LpuApiAnswer *answer,
												 const LpuWriteRequest *write);

/* Take the revision's lock of the account until lpu_unlock_revision(). */
extern void lpu_writer_lock(LpuWriterState *writer, LpuRevisionUse use, int timeout_ms);

/*
 * Remove the record of a refused request whose users are sent again, except for those that are
 * doubtful (or NULL).
 */
extern void lpu_writer_forget(const LpuWriteRequest *write, const bool *doubtful);

/*
 * What a batch can do. Its users have numbers from 0; the functions are given
 * some of them, in order.
 */
typedef struct LpuWriteBatch
{
	/*
	 * Write the request about these, or return what is wrong with one of
	 * them. Only for batches that are sent side by side (parallel_batch.c):
	 * they do not depend on the account's revision.
	 */
	LpuProblem *(*write) (void *batch, const int *users, int n, LpuWriteRequest *write);

	/* Send these in one request: the response, and what was sent. */
	LpuApiAnswer *(*send) (void *batch, const int *users, int n, LpuWriteRequest *write);

	/*
	 * Find which of these users, who were refused together, are in the
	 * account now as they are wanted: some accounts carry out a part of such
	 * a request. NULL: what was carried out already can be sent once more.
	 */
	void		(*look) (void *batch, const int *users, int n, bool *there);
	bool		there_is_done;	/* ... then it was us, or it makes no
								 * difference */

	/*
	 * Return true if the refusal of this one user is no failure. NULL: it
	 * always is.
	 */
	bool		(*excuse) (void *batch, int user, const LpuApiAnswer *answer,
						   const LpuWriteRequest *write);
} LpuWriteBatch;

/* Send n users, batch_size of them in a request, one request after the other. */
extern void lpu_writer_carry_out(LpuWriterState *writer, const LpuWriteBatch *methods, void *batch,
								 int n);

/*
 * Have an abort name these users: a request that was refused may have been carried out for them.
 */
extern void lpu_writer_doubt(const LpuWriterState *writer, const LpuUserIdentity *users, int n);

/* Return a user for a message, with what is known: "ann@example.com" (id 1). */
extern char *lpu_writer_name(const LpuUserIdentity *user);

/*
 * Return " Of this statement 3 user(s) ..." for the DETAIL of an error, allocated in the current
 * memory context; "" if there are none.
 */
extern char *lpu_writer_progress(const LpuWriterState *writer);

#endif
