/*
 * enqueue.h: putting users into the queue.
 */
#ifndef LPU_QUEUE_ENQUEUE_H
#define LPU_QUEUE_ENQUEUE_H

#include "utils/jsonb.h"

#include "queue/columns.h"
#include "queue/request_state.h"
#include "user/serialize.h"

/* One user for the queue. All texts in the database's encoding. */
typedef struct LpuQueuedUser
{
	char	   *login_name;		/* or NULL */
	char	   *body;			/* JSON, or NULL if there is nothing to send */
	char	   *problem;		/* what is wrong with the data, or NULL */
	Jsonb	   *key;			/* primary key of the source row, or NULL */
} LpuQueuedUser;

/* Properties common to all rows of a call. */
typedef struct LpuQueueOrigin
{
	Oid			schema;			/* of the extension */
	const char *account;
	const char *server;			/* name, or NULL if there is none */
	Oid			server_oid;		/* its OID, or InvalidOid */
	Oid			requested_by;
	Oid			send_as;
	const char *held;			/* why they are held, or NULL */
	LpuHoldKind hold;			/* in which way, if they are */
	bool		raise;			/* a duplicate login is an ERROR, not a failed
								 * row */
	const char *source_table;	/* or NULL */
	Oid			source_table_oid;	/* or InvalidOid */
	int64		plan;			/* of lp_sync, or 0 */
	const char *action;			/* of creates of a plan, or NULL */
} LpuQueueOrigin;

/* A user is a few kB; batches of larger ones could exceed memory or the limits of the service. */
#define LPU_MAX_PAYLOAD LPU_MAX_USER

/* A longer login never reaches an index. */
#define LPU_MAX_LOGIN 254

/* Properties common to all rows of a statement, as its parameters. */
#define LPU_ORIGIN_PARAMS 14

extern void lpu_origin_params(const LpuQueueOrigin *origin, Oid *param_types, Datum *values);

/*
 * Append users to the queue, as part of the current transaction and with the rights of the tables'
 * owner; delivery begins after COMMIT. *ids gets their request ids, in order, unless it is NULL.
 */
extern void lpu_enqueue(const LpuQueueOrigin *origin, const LpuQueuedUser *users, int n,
						int64 *ids);

/*
 * The same for users supplied one after the other: user i is used only until the next one is
 * requested, and may be in the current memory context.
 */
typedef const LpuQueuedUser *(*LpuNextUser) (void *arg, int i);

extern void lpu_enqueue_from(const LpuQueueOrigin *origin, LpuNextUser next, void *arg, int n,
							 int64 *ids);

/*
 * A kind of request: its columns, and the callbacks that build and write the rows of an INSERT.
 */
typedef struct LpuEnqueueKind
{
	const Oid  *types;
	int			ncolumns;

	/* add row i, with this id; returns the bytes that it takes */
	Size		(*add) (LpuColumns *chunk, const void *rows, int i, int64 id);
	/* write the rows of one INSERT; first: the first id of the call */
	void		(*write) (const LpuQueueOrigin *origin, LpuColumns *chunk, int64 first);
} LpuEnqueueKind;

extern void lpu_enqueue_many(const LpuEnqueueKind *kind, const LpuQueueOrigin *origin,
							 const void *rows, int n, int64 *ids);

/* Wake the worker of this database when this transaction commits. */
extern void lpu_enqueue_wake(void);

/*
 * Add n to the number of users that triggers enqueue for an account, and return the total of this
 * transaction.
 */
extern int64 lpu_enqueue_count(const char *account, int n);

#endif
