/*
 * service_discovery.h: where the services of an account live.
 */
#ifndef LPU_API_SERVICE_DISCOVERY_H
#define LPU_API_SERVICE_DISCOVERY_H

#include "options/option.h"

/* Names of the Domain API. */
#define LPU_SERVICE_CONFIG "accountConfigReadWrite"
#define LPU_SERVICE_LOGIN "agentVep"
#define LPU_SERVICE_TOKEN "sentinel"

/*
 * The origin (https://host) of a service: as an option says, else as the
 * Domain API says, whose answer is kept for an hour. NULL and *problem if it
 * cannot be had. Allocated in the current memory context.
 */
extern char *lpu_domain_origin(const LpuOptions *options, const char *service,
							   LpuProblem **problem);

/* Forget all answers of the Domain API. */
extern void lpu_domain_forget(void);

#endif
