/* What the environment says: the batch job and the rank in it, the modules, and variables the site allows. */
#include "sensor.h"

#include <string.h>

/* Of each batch system, computing element and MPI. PROCID and STEP are of Slurm; JOB_ID, QUEUE and NHOSTS of SGE, whose SGE_CELL or
 * SGE_ROOT says that they are. */
static const char *const JOB_VARIABLES[] = {
    "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_PROCID",
    "SLURM_CLUSTER_NAME", "SLURM_JOB_ACCOUNT", "SLURM_JOB_PARTITION", "SLURM_SUBMIT_HOST", "SLURM_NNODES", "SLURM_NTASKS",
    "SLURM_STEP_NUM_TASKS", "SLURM_HET_JOB_ID", "SLURM_HET_JOB_OFFSET", "SLURM_HET_SIZE", "SLURM_PACK_SIZE",
    "SLURM_JOB_ID_HET_GROUP_0", "SLURM_JOB_ID_PACK_GROUP_0",
    "PBS_JOBID", "PBS_ARRAYID", "PBS_ARRAY_INDEX", "PBS_QUEUE", "PBS_O_HOST", "PBS_ACCOUNT", "PBS_NUM_NODES",
    "PMI_RANK", "PMI_SIZE", "PMIX_RANK",
    "LSB_JOBID", "LSB_JOBINDEX", "LSB_QUEUE", "LSB_MCPU_HOSTS",
    "JOB_ID", "SGE_TASK_ID", "SGE_ACCOUNT", "SGE_CELL", "SGE_ROOT", "SGE_CLUSTER_NAME", "QUEUE", "NHOSTS",
    "_CONDOR_JOB_AD", "_CONDOR_SCRATCH_DIR", "_CONDOR_SLOT", "_CONDOR_MACHINE_AD",
    "GRID_GLOBAL_JOBID", "CREAM_JOBID", "GLITE_WMS_JOBID", "GLOBUS_GRAM_JOB_CONTACT",
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "XALT_COMM_WORLD_SIZE",
    NULL,
};

/* Most variables are told apart by their first letter. */
static bool may_be_of_a_job(char first) {
  return strchr("SPLJQN_GCOMX", first) != NULL;
}

static bool is_of_a_job(const char *variable) {
  if (!may_be_of_a_job(variable[0]))
    return false;
  for (const char *const *name = JOB_VARIABLES; *name; name++)
    if (**name == variable[0] && value_of(variable, *name))
      return true;
  return false;
}

/* Takes back what was added of a variable if its name was cut: `K=V` is what a reader is promised. */
static void end_variable(struct datagram *datagram, size_t begin, bool whole) {
  if (!whole && !memchr(datagram->bytes + begin, '=', datagram->used - begin))
    datagram->used = begin;
  else if (!item_add(datagram, "", 1))
    datagram->used = begin;
  if (!whole)
    datagram->header.flags |= FLAG_ENVIRONMENT_CUT;
}

static void add_job(struct datagram *datagram, char *const *environment) {
  item_begin(datagram, TAG_JOB, ENVIRONMENT_MOST);
  for (char *const *variable = environment; *variable; variable++)
    if (is_of_a_job(*variable)) {
      size_t begin = datagram->used;
      size_t length = strlen(*variable);
      bool fits = item_add_text(datagram, *variable, length < VARIABLE_MOST ? length : VARIABLE_MOST);
      end_variable(datagram, begin, fits && length <= VARIABLE_MOST);
    }
  item_end(datagram);
}

static void add_modules(struct datagram *datagram, char *const *environment) {
  for (char *const *variable = environment; *variable; variable++) {
    const char *modules = value_of(*variable, "LOADEDMODULES");
    if (!modules)
      continue;
    item_begin(datagram, TAG_MODULES, MODULES_MOST);
    if (!item_add_text(datagram, modules, strlen(modules)))
      datagram->header.flags |= FLAG_ENVIRONMENT_CUT;
    item_end(datagram);
    return;
  }
}

static void add_allowed(struct datagram *datagram, const struct policy *policy, char *const *environment) {
  item_begin(datagram, TAG_ENVIRONMENT, ENVIRONMENT_MOST);
  const size_t most = datagram->item_most;
  for (char *const *variable = environment; *variable; variable++)
    if (policy_allows(policy, *variable)) {
      size_t begin = datagram->used;
      datagram->item_most = begin + VARIABLE_MOST < most ? begin + VARIABLE_MOST : most;
      bool whole = add_redacted_variable(datagram, policy, *variable);
      end_variable(datagram, begin, whole);
    }
  datagram->item_most = most;
  item_end(datagram);
}

void add_environment(struct datagram *datagram, const struct policy *policy, char *const *environment) {
  if (!environment)
    return;
  add_job(datagram, environment);
  add_modules(datagram, environment);
  if (policy->has_environment)
    add_allowed(datagram, policy, environment);
}
