# The rules behind `make notebooks` and `make book`; build/deps.mk is written by tools/deps.py.
include build/deps.mk

# The site is built anew when a page changed or when it is to be another kind of site.
KIND := $(if $(OFFLINE),offline,online)$(subst /,-,$(GITHUB_REPOSITORY))

.PHONY: notebooks site
notebooks: $(NOTEBOOKS)
	@:

site: build/site-$(KIND).stamp
	@:

build/site-$(KIND).stamp: $(NOTEBOOKS) $(SITE_INPUTS)
	@rm -f build/site-*.stamp
	@$(PY) tools/assemble.py
	@$(PY) tools/build_site.py
	@touch $@
