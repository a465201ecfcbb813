/*
 * backlog.h: summary of the unfinished requests.
 */
#ifndef LPU_QUEUE_BACKLOG_H
#define LPU_QUEUE_BACKLOG_H

#include "datatype/timestamp.h"

typedef struct LpuBacklog
{
	int64		waiting;		/* pending, sending or uncertain */
	int64		held;
	TimestampTz next;			/* due time of the first of them; 0: now, or
								 * all are paused */
	char	   *paused;			/* accounts that are paused, or NULL */
	char	   *trouble;		/* the latest error of one that waits, or NULL */
} LpuBacklog;

/*
 * Both need a transaction with SPI connected; account is NULL for all.  Texts are in SPI's context.
 */
extern LpuBacklog lpu_backlog(const char *account);
extern bool lpu_backlog_knows(const char *account);

#endif
