// Interactive figures on a page without a kernel: two repairs of the widget library.

// It sets the labels of sliders with MathJax 2 and stumbles over MathJax 3, which the page has.
(function () {
  "use strict";
  var mathjax = window.MathJax;
  var hub = {
    Queue: function (task) {
      if (mathjax && mathjax.typesetPromise) {
        mathjax.typesetPromise([task[2]]);
      }
    }
  };
  Object.defineProperty(window, "MathJax", {
    configurable: true,
    get: function () {
      if (mathjax && !mathjax.Hub) {
        Object.defineProperty(mathjax, "Hub", { value: hub });
      }
      return mathjax;
    },
    set: function (value) { mathjax = value; }
  });
})();

// The sliders of interactive figures come without a name for screen readers, and announce the number of the
// position instead of its value. Both stand beside the slider; this copies them to where they are read out.
(function () {
  "use strict";

  function name(slider) {
    var handle = slider.querySelector("[role=slider]");
    var label = slider.querySelector(".widget-label");
    var readout = slider.querySelector(".widget-readout");
    if (!handle || !readout) {
      return;
    }
    if (label && label.textContent) {
      handle.setAttribute("aria-label", label.textContent.trim());
    }
    var value = readout.textContent.trim();
    if (handle.getAttribute("aria-valuetext") !== value) {
      handle.setAttribute("aria-valuetext", value);
    }
  }

  function nameAll() {
    Array.prototype.forEach.call(document.querySelectorAll(".widget-slider"), name);
  }

  document.addEventListener("DOMContentLoaded", function () {
    var outputs = document.querySelector(".bd-article") || document.body;
    new MutationObserver(nameAll).observe(outputs, {
      subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["aria-valuetext"]
    });
    nameAll();
  });
})();
