/*
 * origin.h: which database this is, among its copies.
 */
#ifndef LPU_BASE_ORIGIN_H
#define LPU_BASE_ORIGIN_H

/* Return system identifier/database OID/timeline, allocated in the current memory context. */
extern char *lpu_origin_text(void);

#endif
