/*
 * claimed_rows.c: rows of the queue that this process has claimed, in memory.
 *
 * The rows of one claim are sent in several requests, which are settled in any order.  All rows of
 * a claim are freed together, after the last one is settled, or with the delivery.  An account may
 * have several deliveries in one process, one for each party: a row that is "sending" and was
 * claimed here is no orphan.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "utils/memutils.h"

#include "queue/claim.h"
#include "queue/statement.h"

struct LpuClaimGroup
{
	dlist_node	node;			/* in groups */
	MemoryContext context;
	MemoryContextCallback on_delete;
	dlist_head	rows;			/* of ClaimedRow */
};

typedef struct ClaimedRow
{
	LpuQueueRow row;			/* first: a row is also a claimed row */
	LpuClaimGroup *claim;
	dlist_node	node;			/* in its rows */
} ClaimedRow;

/* All groups of this process. */
static dlist_head groups = DLIST_STATIC_INIT(groups);

static void
forget_group(void *arg)
{
	dlist_delete(&((LpuClaimGroup *) arg)->node);
}

/* Return a group without rows; its memory context is a child of the current one. */
LpuClaimGroup *
lpu_claim_group(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers claim",
												  ALLOCSET_DEFAULT_SIZES);
	LpuClaimGroup *group = MemoryContextAllocZero(context, sizeof(LpuClaimGroup));

	group->context = context;
	dlist_init(&group->rows);
	group->on_delete.func = forget_group;
	group->on_delete.arg = group;
	dlist_push_tail(&groups, &group->node);
	MemoryContextRegisterResetCallback(context, &group->on_delete);
	return group;
}

/* Return the memory context of a group, which ends with its last row. */
MemoryContext
lpu_claim_group_context(const LpuClaimGroup *group)
{
	return group->context;
}

/* Add an empty row to a group. */
LpuQueueRow *
lpu_claim_add(LpuClaimGroup *group)
{
	ClaimedRow *claimed = MemoryContextAllocZero(group->context, sizeof(ClaimedRow));

	claimed->claim = group;
	dlist_push_tail(&group->rows, &claimed->node);
	return &claimed->row;
}

/* The rows of a group were not claimed after all. */
void
lpu_claim_group_clear(LpuClaimGroup *group)
{
	dlist_init(&group->rows);
}

/* Return the memory context of a claimed row's claim. */
MemoryContext
lpu_claim_context(const LpuQueueRow *row)
{
	return ((const ClaimedRow *) row)->claim->context;
}

/* Give up a claimed row. */
void
lpu_claim_release(LpuQueueRow *row)
{
	ClaimedRow *claimed = (ClaimedRow *) row;
	LpuClaimGroup *from = claimed->claim;

	dlist_delete(&claimed->node);
	if (dlist_is_empty(&from->rows))
		MemoryContextDelete(from->context);
}

/* Return the ids of the rows that this process has claimed, a bigint[]. */
Datum
lpu_claimed_ids(void)
{
	int			room = 64;
	int			n = 0;
	int64	   *ids = palloc(room * sizeof(int64));
	dlist_iter	group;
	dlist_iter	row;

	dlist_foreach(group, &groups)
		dlist_foreach(row, &dlist_container(LpuClaimGroup, node, group.cur)->rows)
	{
		if (n == room)
			ids = repalloc(ids, (room *= 2) * sizeof(int64));
		ids[n++] = dlist_container(ClaimedRow, node, row.cur)->row.id;
	}
	return lpu_queue_id_array(ids, n);
}
