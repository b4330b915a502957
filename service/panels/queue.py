"""What waits, and what a video costs."""

from service.panels.panel import Dashboard, Panel, Query, quantile

QUEUE = Dashboard(
    "queue",
    "Queue and cost",
    (
        Panel(
            "waiting",
            "Jobs that wait",
            "By priority.",
            "count",
            (Query("max by (priority) (wanserve_queue_jobs)", "{{priority}}"),),
        ),
        Panel(
            "waiting-seconds",
            "GPU time that waits",
            "As estimated from the workers' own speed; what a fleet scales on.",
            "seconds",
            (Query("max by (priority) (wanserve_queue_gpu_seconds)", "{{priority}}"),),
        ),
        Panel(
            "oldest",
            "The oldest job waits for",
            "By priority.",
            "seconds",
            (Query("max by (priority) (wanserve_queue_oldest_age_seconds)", "{{priority}}"),),
        ),
        Panel(
            "clearing",
            "Time to clear the queue",
            "All that waits over the workers that live; none: as over one.",
            "seconds",
            (
                Query(
                    "sum(max by (priority) (wanserve_queue_gpu_seconds)) / clamp_min(max(wanserve_workers_live), 1)",
                    "to clear",
                ),
            ),
        ),
        Panel(
            "running",
            "Running jobs and live workers",
            "Jobs that a worker holds; several share one GPU.",
            "count",
            (Query("max(wanserve_jobs_running)", "running"), Query("max(wanserve_workers_live)", "workers")),
        ),
        Panel(
            "waits",
            "Wait before the start, p95",
            "From submission to a worker, by priority.",
            "seconds",
            (Query("wanserve:job_wait_seconds:p95", "{{priority}}"),),
        ),
        Panel(
            "totals",
            "From submission to the finished file",
            "Of completed jobs, by priority.",
            "seconds",
            (
                quantile(0.5, "wanserve_job_total_seconds", by="priority"),
                quantile(0.95, "wanserve_job_total_seconds", by="priority"),
            ),
        ),
        Panel(
            "cost",
            "Engine seconds a video",
            "What one completed job costs, all attempts and all waste included.",
            "seconds",
            (
                Query(
                    "sum(rate(wanserve_engine_seconds_total[5m])) / "
                    'sum(rate(wanserve_jobs_finished_total{outcome="completed"}[5m]))',
                    "a video",
                ),
            ),
        ),
        Panel(
            "saved",
            "Share of videos that cost nothing",
            "Answered from the cache, or by joining an equal job.",
            "ratio",
            (
                Query(
                    'sum by (kind) (rate(wanserve_videos_submitted_total{kind=~"cached|joined"}[5m])) '
                    "/ ignoring (kind) group_left () sum(rate(wanserve_videos_submitted_total[5m]))",
                    "{{kind}}",
                ),
            ),
        ),
        Panel(
            "cache",
            "Result cache",
            "Bytes of the files that it keeps from being removed.",
            "bytes",
            (Query("max(wanserve_cache_bytes)", "bytes"),),
        ),
        Panel(
            "budgets",
            "Budgets used today",
            "Of tenants that have one. At 100 % their requests get 429 until midnight, UTC.",
            "ratio",
            (Query("max by (tenant) (wanserve_tenant_budget_used_ratio)", "{{tenant}}"),),
        ),
        Panel(
            "redis",
            "Redis' memory",
            "From 80 % of its limit on new work is refused.",
            "bytes",
            (
                Query("max(wanserve_redis_memory_bytes)", "used"),
                Query("max(wanserve_redis_memory_limit_bytes)", "limit"),
            ),
        ),
    ),
)
