/*
 * turns.h: deliveries of several accounts side by side.
 */
#ifndef LPU_DELIVERY_TURNS_H
#define LPU_DELIVERY_TURNS_H

#include "delivery/delivery.h"

typedef struct lpu_turns lpu_turns;

extern lpu_turns *lpu_turns_new(const lpu_deliverer *deliverer, bool once);
extern int	lpu_turns_list(lpu_turns *turns, const char *account, bool retry);
extern long lpu_turns_step(lpu_turns *turns, bool stop);
extern bool lpu_turns_busy(const lpu_turns *turns);
extern bool lpu_turns_changed(lpu_turns *turns);
extern void lpu_turns_close(lpu_turns *turns);

#endif
