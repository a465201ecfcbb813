/*
 * origin.h: which database this is, among its copies.
 */
#ifndef LPU_BASE_ORIGIN_H
#define LPU_BASE_ORIGIN_H

/*
 * System identifier/database OID/timeline, in the current memory context. A
 * promoted or restored copy has another timeline, a dump restored elsewhere
 * another database or system. During recovery the timeline is that of the
 * replay.
 */
extern char *lpu_origin_text(void);

#endif
