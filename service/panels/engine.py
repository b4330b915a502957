"""What workers do with their devices."""

from service.panels.panel import Dashboard, Panel, Query, quantile, rate

ENGINE = Dashboard(
    "engine",
    "Worker and engine",
    (
        Panel(
            "shares",
            "What engines do",
            "Share of all workers' time: steps of each expert, waits for weights, text, decode. The rest is idle.",
            "ratio",
            (
                Query(
                    "sum by (part) (rate(wanserve_engine_seconds_total[5m])) / ignoring (part) group_left () "
                    "count(wanserve_worker_ready)",
                    "{{part}}",
                ),
            ),
        ),
        Panel(
            "steps",
            "Seconds a step, median",
            "One step of a batch, by native size and most frames.",
            "seconds",
            (quantile(0.5, "wanserve_denoising_step_seconds", by="size"),),
        ),
        Panel(
            "rows",
            "Rows a forward",
            "Two for each request with guidance. More rows: more videos share what a step costs.",
            "count",
            (
                Query("sum(rate(wanserve_batch_rows_sum[5m])) / sum(rate(wanserve_batch_rows_count[5m]))", "mean"),
                quantile(0.95, "wanserve_batch_rows"),
            ),
        ),
        Panel(
            "in-flight",
            "Jobs in flight",
            "By what is next for them.",
            "count",
            (Query("sum by (phase) (wanserve_jobs_in_flight)", "{{phase}}"),),
        ),
        Panel(
            "swaps",
            "Switches between experts",
            "Steps that waited for weights. None where both experts fit.",
            "per_second",
            (Query("sum(rate(wanserve_expert_swaps_total[5m]))", "swaps"),),
        ),
        Panel(
            "ends",
            "How jobs end",
            "retried and lost ones run again; released ones were handed back by a worker that stops.",
            "per_second",
            (rate("wanserve_jobs_finished_total", by="outcome"),),
        ),
        Panel(
            "stages",
            "Seconds by stage, median",
            "Of completed jobs.",
            "seconds",
            (quantile(0.5, "wanserve_stage_seconds", by="stage"),),
        ),
        Panel(
            "rescues",
            "Saved, resumed, reclaimed",
            "States saved, jobs that went on from one, jobs taken from silent workers.",
            "per_second",
            (
                Query("sum(rate(wanserve_checkpoints_total[5m]))", "saved"),
                Query("sum(rate(wanserve_jobs_resumed_total[5m]))", "resumed"),
                Query("sum(rate(wanserve_jobs_reclaimed_total[5m]))", "reclaimed"),
            ),
        ),
        Panel(
            "storage",
            "Calls to the object store",
            "failed: after all retries.",
            "per_second",
            (
                Query(
                    "sum by (operation, outcome) (rate(wanserve_storage_calls_total[5m]))",
                    "{{operation}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "storage-seconds",
            "The object store's time, p95",
            "By operation.",
            "seconds",
            (quantile(0.95, "wanserve_storage_call_seconds", by="operation"),),
        ),
        Panel(
            "uploads",
            "Uploaded",
            "Bytes a second, files and saved states.",
            "bytes",
            (Query("sum(rate(wanserve_storage_uploaded_bytes_total[5m]))", "uploaded"),),
        ),
        Panel(
            "worker-memory",
            "Workers' memory",
            "Resident, of the host.",
            "bytes",
            (
                Query(
                    'process_resident_memory_bytes * on (instance) group_left () wanserve_build_info{role="worker"}',
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "gpu-memory",
            "GPU memory",
            "Used and in all.",
            "bytes",
            (Query("sum by (instance, kind) (wanserve_device_memory_bytes)", "{{instance}} {{kind}}"),),
            needs_gpu=True,
        ),
        Panel(
            "gpu-busy",
            "GPU utilisation",
            "As the driver says: the share of time in which any kernel ran.",
            "ratio",
            (Query("wanserve_device_utilisation_ratio > 0", "{{instance}}"),),
            needs_gpu=True,
        ),
    ),
)
