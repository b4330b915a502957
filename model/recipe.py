"""The official recipe of Wan2.2-T2V-A14B: what a checkpoint folder without its own wanserve.json is run with.

Source: wan/configs/wan_t2v_A14B.py and generate.py of github.com/Wan-Video/Wan2.2.
"""

LANGUAGES = ("en", "zh")

ALIASES = ("Wan-AI/Wan2.2-T2V-A14B", "Wan-AI/Wan2.2-T2V-A14B-Diffusers", "wan2.2-t2v-plus")
"""Its authors' names for it, the hosted service's last."""

NATIVE_SIZES = ((1280, 720), (720, 1280), (832, 480), (480, 832))
NUM_FRAMES = 81
FPS = 16
NUM_INFERENCE_STEPS = 40
GUIDANCE_SCALE = 4.0
"""High-noise expert; the official tuple (3.0, 4.0) is (low, high)."""

GUIDANCE_SCALE_2 = 3.0
FLOW_SHIFT = 12.0
QUALITY_STEPS = {"draft": 20, "standard": 40, "high": 50}
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，"
    "杂乱的背景，三条腿，背景人很多，倒着走"
)

EXAMPLE_PROMPTS = {
    "en": (
        "A paper boat drifts down a rain-soaked street at dusk, neon signs rippling in the puddles.",
        "Macro shot of a bee landing on a lavender flower, shallow depth of field, warm morning light.",
        "A teacher draws the water cycle on a blackboard, chalk dust in the sunbeam, medium shot.",
    ),
    "zh": (
        "黄昏的雨巷里，一只纸船顺着积水漂流，霓虹灯在水面荡漾，镜头缓缓跟拍。",
        "一杯拿铁放在木桌上，热气缓缓升起，窗外飘着雪，浅景深，暖色调。",
        "老师在黑板上画水循环示意图，粉笔灰在阳光里飘动，中景。",
    ),
}
DESCRIPTION = {
    "en": "Wan2.2 text-to-video: realistic and stylised scenes of about five seconds, in English or Chinese.",
    "zh": "Wan2.2 文生视频：约五秒的写实或风格化画面，支持中文和英文提示词。",
}
