# The rules behind `make notebooks` and `make book`; build/deps.mk is written by tools/deps.py.
include build/deps.mk

# The site is built anew when a page changed or when it is to be another kind of site.
KIND := $(if $(OFFLINE),offline,online)$(subst /,-,$(GITHUB_REPOSITORY))

# PART=layers: the notebooks of one part of the course; PART=ground: those of none. The browser sees all.
PARTS := $(sort $(foreach n,$(filter build/notebooks/solutions/%,$(NOTEBOOKS)),$(word 4,$(subst /, ,$(n)))))
ALL_OF = build/notebooks/$(1)/% build/notebooks/solutions/$(1)/% build/notebooks/exercises/$(1)/%
ifeq ($(filter-out browser,$(PART)),)
WANTED := $(NOTEBOOKS)
else ifeq ($(PART),ground)
WANTED := $(filter-out $(foreach p,$(PARTS),$(call ALL_OF,$(p))),$(NOTEBOOKS))
else
WANTED := $(filter $(call ALL_OF,$(PART)),$(NOTEBOOKS))
endif

.PHONY: notebooks site
notebooks: $(WANTED)
	@:

site: build/site-$(KIND).stamp
	@:

build/site-$(KIND).stamp: $(NOTEBOOKS) $(SITE_INPUTS)
	@rm -f build/site-*.stamp
	@$(PY) tools/assemble.py
	@$(PY) tools/build_site.py
	@touch $@
