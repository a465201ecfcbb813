/*
 * enqueue_change.h: putting updates and deletes of users into the queue.
 */
#ifndef LPU_QUEUE_ENQUEUE_CHANGE_H
#define LPU_QUEUE_ENQUEUE_CHANGE_H

#include "queue/enqueue.h"

/*
 * The payload of an update, a JSON object; all members are optional.
 *
 *	set		desired attributes; null removes one
 *	add		{"skillIds": [1]}: what is set, else what the account has, with these ids
 *	take	... and without these
 *	base	attributes as the account had them when the request was planned
 *	drift	what is done with an attribute that is neither as in base nor as wanted:
 *			"overwrite" (the default), "report" or "accept"
 *	hidden	attributes that the account returns blank, sent only to preserve their values
 *
 * Of a delete: base with isEnabled false, so that a user that was enabled again is not deleted.
 * Values are of the API's JSON types, numbers and booleans not quoted.
 */

/* One change of one user.  All texts are in the database's encoding. */
typedef struct LpuQueuedChange
{
	bool		deletes;		/* delete the user; else update it */
	int64		user_id;		/* 0: the user is found by login_name */
	char	   *login_name;		/* login that the user must have now, or NULL */
	const char *action;			/* lp_requests.action; NULL: by what is set */
	char	   *body;			/* payload, see above, or NULL if there is a
								 * problem */
	char	   *problem;		/* what is wrong with the data, or NULL */
	Jsonb	   *key;			/* of the source row, or NULL */
} LpuQueuedChange;

extern void lpu_enqueue_changes(const LpuQueueOrigin *origin, const LpuQueuedChange *changes, int n,
								int64 *ids);

#endif
