"""What pages, mails and refusals say: one file a language, for the kernel, each feature, and the app."""
