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
 * Return the origin (https://host) of a service: from an option, else from the Domain API, whose
 * response is kept for an hour.
 */
extern char *lpu_domain_origin(const LpuOptions *options, const char *service,
							   LpuProblem **problem);

/* Forget all responses of the Domain API. */
extern void lpu_domain_forget(void);

#endif
