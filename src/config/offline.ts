/** Switches that keep the Hugging Face libraries off the network. */
export const offlineSwitches = {
  HF_HUB_OFFLINE: "1",
  HF_DATASETS_OFFLINE: "1",
  TRANSFORMERS_OFFLINE: "1",
  HF_EVALUATE_OFFLINE: "1",
} as const;
