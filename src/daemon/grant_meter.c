#include "daemon/grant_meter.h"

#include <stddef.h>

/*
 * Each use moves the time at which the bucket is full on by an interval; it may be at most a burst
 * of intervals away.
 */
static bool take(struct grant_meter *meter, const struct grant_rate *rate, uint64_t now_ns)
{
    uint64_t full_at = atomic_load_explicit(&meter->full_at, memory_order_relaxed), next;
    do {
        next = (full_at > now_ns ? full_at : now_ns) + rate->interval_ns;
        if (next - now_ns > rate->burst * rate->interval_ns)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&meter->full_at, &full_at, next,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

bool grant_meter_use(struct grant_meter *meter, const struct grant_rate *rate, uint64_t now_ns,
                     bool *alarm)
{
    *alarm = false;
    atomic_fetch_add_explicit(&meter->used, 1, memory_order_relaxed);
    if (rate->interval_ns == 0 || take(meter, rate, now_ns))
        return true;
    atomic_fetch_add_explicit(&meter->over, 1, memory_order_relaxed);
    uint64_t alarm_at = atomic_load(&meter->alarm_at);
    *alarm = alarm_at <= now_ns && atomic_compare_exchange_strong(&meter->alarm_at, &alarm_at,
                                                                  now_ns + GRANT_ALARM_PAUSE_NS);
    return false;
}

void grant_meter_give_back(const struct grant_use *use)
{
    struct grant_meter *meter = use->meter;
    if (meter == NULL)
        return;
    if (use->within)
        atomic_fetch_sub_explicit(&meter->full_at, use->rate->interval_ns, memory_order_relaxed);
    else
        atomic_fetch_sub_explicit(&meter->over, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&meter->used, 1, memory_order_relaxed);
}
