"""What is stopped, held, marked."""

from service.panels.panel import Dashboard, Panel, Query, rate

SAFETY = Dashboard(
    "safety",
    "Safety",
    (
        Panel(
            "verdicts",
            "The prompt filter's verdicts",
            "allow, review or block.",
            "per_second",
            (rate("wanserve_moderation_verdicts_total", by="outcome"),),
        ),
        Panel(
            "categories",
            "What for",
            "Categories of prompts that were held or refused.",
            "per_second",
            (rate("wanserve_moderation_verdicts_total", by="category", where='outcome!="allow"'),),
        ),
        Panel(
            "frames",
            "Finished videos held or refused",
            "By the frame check or a tenant's rule.",
            "per_second",
            (rate("wanserve_jobs_finished_total", by="outcome", where='outcome=~"held|refused"'),),
        ),
        Panel(
            "reviews",
            "Videos that wait for a reviewer",
            "They use no GPU meanwhile.",
            "count",
            (Query("max(wanserve_reviews_pending)", "pending"),),
        ),
        Panel(
            "review-age",
            "The oldest review waits for",
            "After WANSERVE_REVIEW_TIMEOUT_SECONDS a rule decides.",
            "seconds",
            (Query("max(wanserve_reviews_oldest_age_seconds)", "oldest"),),
        ),
        Panel(
            "decisions",
            "Decisions",
            "Of people, and of the time-out.",
            "per_second",
            (rate("wanserve_review_decisions_total", by="decision"),),
        ),
        Panel(
            "unsigned",
            "Files that went out unsigned, or without a time",
            "The worker's log says why.",
            "per_second",
            (
                Query("sum(rate(wanserve_files_unsigned_total[5m]))", "unsigned"),
                Query("sum(rate(wanserve_files_untimed_total[5m]))", "without the authority's time"),
            ),
        ),
        Panel(
            "certificate",
            "The signer's certificate ends in",
            "From then on files go out unsigned.",
            "seconds",
            (Query("min(wanserve_certificate_expires_timestamp_seconds) - time()", "left"),),
        ),
        Panel(
            "audit",
            "Audit lines lost",
            "The log's disk did not take them.",
            "per_second",
            (Query("sum(rate(wanserve_audit_entries_lost_total[5m]))", "lost"),),
        ),
    ),
)
