"""Whether users are served."""

from service.panels.panel import Dashboard, Panel, Query, quantile, rate

SERVICE = Dashboard(
    "service",
    "Service",
    (
        Panel(
            "up",
            "Served at all",
            "Redis answers the gateways, and workers with a warm model report. 0 of either: nothing is made.",
            "count",
            (Query("min(wanserve_queue_up)", "Redis up"), Query("max(wanserve_workers_live)", "live workers")),
        ),
        Panel(
            "requests",
            "Requests by status",
            "What clients ask, and what they get.",
            "per_second",
            (rate("wanserve_http_requests_total", by="status"),),
        ),
        Panel(
            "errors",
            "Share of requests that fail here (5xx)",
            "The month's budget is 0.1 %. At 1.44 % it lasts two days.",
            "ratio",
            (
                Query("wanserve:http_error_ratio:rate5m", "5 minutes"),
                Query("wanserve:http_error_ratio:rate1h", "1 hour"),
            ),
        ),
        Panel(
            "latency",
            "Time to answer",
            "Of requests, without event streams' own length.",
            "seconds",
            (
                quantile(0.5, "wanserve_http_request_seconds"),
                quantile(0.99, "wanserve_http_request_seconds"),
            ),
        ),
        Panel(
            "slowest-routes",
            "Slowest routes, p95",
            "Which part of the interface is slow.",
            "seconds",
            (
                Query(
                    "topk(5, histogram_quantile(0.95, sum by (le, route) "
                    "(rate(wanserve_http_request_seconds_bucket[5m]))))",
                    "{{route}}",
                ),
            ),
        ),
        Panel(
            "accepted",
            "Videos accepted",
            "queued: made; joined: follows an equal job that waits or runs; cached: answered at once.",
            "per_second",
            (rate("wanserve_videos_submitted_total", by="kind"),),
        ),
        Panel(
            "refused",
            "Videos refused",
            "By the error's code.",
            "per_second",
            (rate("wanserve_videos_refused_total", by="code"),),
        ),
        Panel(
            "webhooks",
            "Webhook attempts",
            "dead: given up after ten attempts; `wanserve` replays them on demand.",
            "per_second",
            (rate("wanserve_webhook_deliveries_total", by="outcome"),),
        ),
        Panel(
            "streams",
            "Open event streams",
            "Clients that follow their videos live.",
            "count",
            (Query("sum(wanserve_event_streams_open)", "open"),),
        ),
        Panel(
            "gateway-memory",
            "Gateways' memory",
            "Resident. It should be flat.",
            "bytes",
            (
                Query(
                    'process_resident_memory_bytes * on (instance) group_left () wanserve_build_info{role="gateway"}',
                    "{{instance}}",
                ),
            ),
        ),
    ),
)
