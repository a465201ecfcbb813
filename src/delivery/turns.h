/*
 * turns.h: deliveries of several accounts side by side.
 */
#ifndef LPU_DELIVERY_TURNS_H
#define LPU_DELIVERY_TURNS_H

#include "delivery/delivery.h"

typedef struct LpuTurns LpuTurns;

extern LpuTurns *lpu_turns_new(const LpuDeliverer *deliverer, bool once);
extern int	lpu_turns_list(LpuTurns *turns, const char *account, bool retry);
extern long lpu_turns_step(LpuTurns *turns, bool stop);
extern bool lpu_turns_busy(const LpuTurns *turns);
extern bool lpu_turns_changed(LpuTurns *turns);
extern void lpu_turns_close(LpuTurns *turns);

#endif
