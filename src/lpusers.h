/*
 * lpusers.h: settings of the module.
 */
#ifndef LPU_LPUSERS_H
#define LPU_LPUSERS_H

/* lpusers.log_calls: are direct calls and writes to foreign tables recorded in lp_requests? */
extern bool lpu_log_calls;

#endif
