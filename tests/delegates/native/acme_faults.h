/* How the example misbehaves on request, for the tests: options "misbehave" (fail, lie, hang, crash) and "at" (open,
 * supports, compile, load, run). A real plug-in has none of this. */
#ifndef ACME_FAULTS_H
#define ACME_FAULTS_H

#include "delegraph_delegate.h"

#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <windows.h>
#else
#include <time.h>
#endif

typedef struct acme_faults {
  char what[8];
  char at[12];
  int64_t hang_ms;
} acme_faults;

static const dg_option *find_option(const dg_option *const *options, size_t n, const char *name) {
  size_t i;
  for (i = 0; i < n; i++) {
    if (strcmp(options[i]->name, name) == 0) return options[i];
  }
  return NULL;
}

static void copy_option(const dg_option *const *options, size_t n, const char *name, char *to, size_t size) {
  const dg_option *found = find_option(options, n, name);
  to[0] = '\0';
  if (found != NULL && found->type == DG_TEXT) {
    strncpy(to, found->text, size - 1);
    to[size - 1] = '\0';
  }
}

static acme_faults read_faults(const dg_option *const *options, size_t n) {
  acme_faults faults;
  const dg_option *hang_ms = find_option(options, n, "hang_ms");
  copy_option(options, n, "misbehave", faults.what, sizeof faults.what);
  copy_option(options, n, "at", faults.at, sizeof faults.at);
  faults.hang_ms = hang_ms != NULL && hang_ms->type == DG_INT ? hang_ms->int_value : 60000;
  return faults;
}

static int is_fault(const acme_faults *faults, const char *what, const char *at) {
  return strcmp(faults->what, what) == 0 && strcmp(faults->at, at) == 0;
}

/* Hangs or crashes here if that was asked for; 1 if it is to fail here. */
static int misbehave(const acme_faults *faults, const char *at) {
  if (is_fault(faults, "crash", at)) {
    volatile int *nowhere = NULL;
    *nowhere = 1;
    abort(); /* for compilers that know better than to write there */
  }
  if (is_fault(faults, "hang", at)) {
#if defined(_WIN32)
    Sleep((DWORD)faults->hang_ms);
#else
    struct timespec pause;
    pause.tv_sec = (time_t)(faults->hang_ms / 1000);
    pause.tv_nsec = (long)(faults->hang_ms % 1000) * 1000000L;
    nanosleep(&pause, NULL);
#endif
  }
  return is_fault(faults, "fail", at);
}

#endif
