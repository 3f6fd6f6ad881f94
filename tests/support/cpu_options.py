"""The options of training that the cpu recipe and its search use, each as overrides of a small job."""

SMALL = ["model={name: compact_cnn, arguments: {stem_channels: 4, channels: [4, 8], squeeze: true}}"]
"""A model for images of any size."""
ON_ANY_RANKS = {
    "muon": ["optimizer={name: muon, lr: 0.03, momentum: 0.9}", "schedule.name=onecycle"],
    "sam": ["optimizer.sam_radius=0.05", "optimizer.sam_every_steps=2"],
    "smaller images": ["image_size.sides=[32,40]"],
    "an end of mixing": ["augment.mixup_alpha=0.2", "augment.mixing_until=0.3"],
    "randaugment": ["augment.randaugment_ops=2", "augment.randaugment_magnitude=15"],
    "warm-up of the average": ["ema.decay=0.9", "ema.warmup=true"],
}
ON_ONE_RANK = {"label correction": ["label_correction.momentum=0.9", "label_correction.start_epoch=0"]}
