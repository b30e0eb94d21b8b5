// A formula that is wider than its place scrolls inside itself, and can then be reached by keyboard. Inside a line
// it gets the class "wide", and only then, since a box that scrolls no longer stands on the line of its text.
(function () {
  "use strict";

  function mark() {
    var formulas = document.querySelectorAll(".bd-article mjx-container");
    Array.prototype.forEach.call(formulas, function (formula) {
      var block = formula;
      if (formula.getAttribute("display") !== "true") {
        formula.classList.remove("wide");
        block = formula.closest("p, li, dd, td, th, div");
      }
      var wide = formula.scrollWidth > block.clientWidth;
      formula.classList.toggle("wide", wide && block !== formula);
      if (wide) {
        formula.tabIndex = 0;
      } else {
        formula.removeAttribute("tabindex");
      }
    });
  }

  window.addEventListener("load", function () {
    if (window.MathJax && window.MathJax.startup) {
      window.MathJax.startup.promise.then(mark);
      window.addEventListener("resize", mark);
    }
  });
})();
