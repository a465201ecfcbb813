/*
 * guc.h: settings of the module.
 */
#ifndef LPU_BASE_GUC_H
#define LPU_BASE_GUC_H

/*
 * lpusers.after_promotion: what happens to rows that were written on another
 * timeline of this database.
 */
typedef enum LpuAfterPromotionChoice
{
	LPU_HOLD,
	LPU_RESUME
} LpuAfterPromotionChoice;

extern bool lpu_log_calls;		/* direct calls and writes to foreign tables
								 * are recorded in lp_requests */
extern bool lpu_worker_on;		/* a worker may deliver */
extern int	lpu_idle_timeout;	/* ms after which a worker with nothing to do
								 * leaves */
extern int	lpu_keep_secrets;	/* s that secrets of failed rows are kept */
extern int	lpu_keep_held_secrets;	/* ... of held rows */
extern int	lpu_retention;		/* s that finished rows are kept */
extern char *lpu_databases;		/* databases whose workers start with the
								 * server, a list; "" unless preloaded */
extern int	lpu_after_promotion;	/* LpuAfterPromotionChoice */
extern int	lpu_max_changes;	/* users a command may update or delete; 0:
								 * any number */

/* Of the error that lpu_max_changes is exceeded. */
#define LPU_MAX_CHANGES_HINT \
	"If that many users are to be changed, set \"lpusers.max_changes\" to a higher value, " \
	"or to 0 for no limit."

/* Define all settings; called once, when the module is loaded. */
extern void lpu_define_settings(void);

#endif
