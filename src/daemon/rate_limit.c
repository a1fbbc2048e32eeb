#include "daemon/rate_limit.h"

#include "base/clock.h"

bool rate_limit_pass(struct rate_limit *limit, unsigned *suppressed)
{
    uint64_t second = clock_now_ms() / 1000;
    pthread_mutex_lock(&limit->lock);
    if (limit->window != second) {
        limit->window = second;
        limit->passed = 0;
    }
    bool pass = limit->passed < RATE_LIMIT_PER_SECOND;
    *suppressed = limit->suppressed;
    limit->passed += pass;
    limit->suppressed = pass ? 0 : limit->suppressed + 1;
    pthread_mutex_unlock(&limit->lock);
    return pass;
}
