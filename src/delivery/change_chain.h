/*
 * change_chain.h: state of a chain of updates and deletes, for the files that implement it.
 */
#ifndef LPU_DELIVERY_CHANGE_CHAIN_H
#define LPU_DELIVERY_CHANGE_CHAIN_H

#include "utils/hsearch.h"

#include "delivery/change_read.h"
#include "queue/claim_order.h"

/* Next action of a chain. */
typedef enum LpuChainStep
{
	LPU_CHAIN_READ,				/* users are to be read, or are being read */
	LPU_CHAIN_WRITE,			/* some of them are to be sent */
	LPU_CHAIN_SENT,				/* ... and are under way */
	LPU_CHAIN_PAUSE,			/* until other clients stop changing the
								 * account */
	LPU_CHAIN_OVER
} LpuChainStep;

/* A request for some users of a chain. */
typedef struct LpuChainWrite
{
	LpuChangedUser **users;
	int			n;
	LpuApiRequest request;
	LpuApiCall *call;			/* or NULL */
	bool		renewed;		/* it was repeated after a 401 */
} LpuChainWrite;

typedef struct LpuChangeChain
{
	LpuDelivery *delivery;
	MemoryContext context;		/* for the chain, its options and users */
	MemoryContext round;		/* for what was read last and the request */
	const LpuOptions *options;
	LpuNextChange sender;
	TimestampTz since;			/* when its rows were claimed */
	LpuChangedUser *users;
	int			n;
	int			left;			/* users that are not settled */
	LpuChainStep step;
	TimestampTz end;			/* of its time, which starts after reading
								 * users; 0: not yet */
	bool		wrote;			/* something was sent since users were read */
	TimestampTz resume;			/* of a pause */
	LpuChangeRead *read;		/* under way, or NULL */
	LpuChangedUser **reading;	/* ... and its users */
	int			nreading;
	int			njudged;		/* ... the first of them that were judged */
	LpuWaitingChange *waiting;	/* older requests by login */
	LpuChangedUser *older;		/* ... and their users */
	int			nolder;			/* ... 0 once they were sought */
	HTAB	   *creates;		/* older creates to be looked up, by login;
								 * NULL: none */
	int64		revision;		/* of the account when they were read; -1: it
								 * shows none */
	LpuChainWrite *write;		/* under way, or to be settled */
	LpuChainWrite *ahead;		/* ... the next one, under way meanwhile if it
								 * has a call */
	int64		refused_at;		/* revision of a 409 that may be stale; -1:
								 * none */
	const char *refusal;		/* ... its words */
} LpuChangeChain;

/* The phase of renames, see lp_requests.phase. */
#define LPU_RENAME_PHASE 3

/* Number of consecutive stale writes after which only few users are read at a time. */
#define LPU_STALE_ROUNDS 2

/* change_settle.c: in a step, settle, give back or hold users. */
extern LpuChangedUser **lpu_chain_left(const LpuChangeChain *chain, int *n);
extern void lpu_chain_set_back(LpuQueueRow *row, const char *why, int64 wait_ms, int status);
extern void lpu_chain_settle(LpuChangeChain *chain, LpuChangedUser **users, int n, bool looked);
extern void lpu_chain_give_back(LpuChangeChain *chain, const char *why, int64 wait_ms, int status);
extern void lpu_chain_hold_rows(LpuChangeChain *chain, LpuHoldKind hold, const char *why);
extern void lpu_chain_hold_role(LpuChangeChain *chain, LpuHoldKind hold, const char *why);
extern void lpu_chain_forget(LpuChangeChain *chain);
extern void lpu_chain_note_stale(LpuChangeChain *chain);
extern void lpu_chain_note_written(LpuChangeChain *chain);
extern void lpu_chain_pause(LpuChangeChain *chain);

/* change_order.c: in a step, requests that name one user by id and by login, or need its login. */
extern void lpu_chain_find_older(LpuChangeChain *chain);
extern void lpu_chain_put_in_order(LpuChangeChain *chain);
extern void lpu_chain_follow_renames(LpuChangeChain *chain);
extern void lpu_chain_await_logins(LpuChangeChain *chain, LpuChangedUser **users, int n);
extern bool lpu_chain_awaits_login(LpuChangeChain *chain, LpuChangedUser *user, int status);

/* change_send.c: judge users, and send those that need a request. */
extern bool lpu_chain_is_judged(const LpuChangeChain *chain);
extern void lpu_chain_judge(LpuChangeChain *chain);
extern bool lpu_chain_send(LpuChangeChain *chain);
extern bool lpu_chain_renew(LpuChangeChain *chain, const LpuApiAnswer *answer);
extern void lpu_chain_send_ahead(LpuChangeChain *chain, const LpuApiAnswer *answer);
extern bool lpu_chain_keeps_entities(const LpuChangeChain *chain, const LpuApiAnswer *answer);

/* change_write.c: in a step, the response. */
extern void lpu_chain_judge_refused(LpuChangeChain *chain, const char *words, int status);
extern void lpu_chain_finish_write(LpuChangeChain *chain, LpuApiAnswer *answer);

#endif
