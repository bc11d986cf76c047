# shellcheck shell=bash disable=SC2034
# Locations of the corpora. Set a variable in the environment, or edit this file. Paths are relative to the recipe.

# CMU AN4 (AN4 License Terms, free for any use). --local_data_opts "--download true" downloads it.
AN4="${AN4:-downloads/an4}"
AN4_URL="${AN4_URL:-http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz}"

# CREMA-D (database ODbL 1.0, contents DbCL 1.0): the folder with AudioWAV/. The same option downloads it, with git-lfs.
CREMA_D="${CREMA_D:-downloads/crema_d}"
CREMA_D_URL="${CREMA_D_URL:-https://github.com/CheyneyComputerScience/CREMA-D.git}"

# More actors of CREMA-D, for testing only: a folder with AudioWAV/, whose actors are not in CREMA_D; may be missing.
# Training on it, or choosing anything on it, would make its results optimistic.
CREMA_D_MORE="${CREMA_D_MORE:-downloads/crema_d_more}"

# LibriSpeech (CC BY 4.0, https://www.openslr.org/12): the folder LibriSpeech, with train-clean-100 and other subsets
LIBRISPEECH="${LIBRISPEECH:-downloads/LibriSpeech}"

# IEMOCAP (under a licence: https://sail.usc.edu/iemocap): the folder IEMOCAP_full_release
IEMOCAP="${IEMOCAP:-downloads/IEMOCAP_full_release}"
