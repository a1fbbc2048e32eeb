/*
 * Progress that is shown to the person at the terminal.
 */
#ifndef IMMURE_CLI_PROGRESS_H
#define IMMURE_CLI_PROGRESS_H

/*
 * Shows `what` and the seconds that it takes, on standard error when that is a terminal, from a
 * thread of its own, until progress_stop(). NULL when nothing is shown. One at a time.
 */
struct progress;
struct progress *progress_start(const char *what);
void progress_stop(struct progress *progress);

#endif
