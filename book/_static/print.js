// On paper nothing can be opened: what is folded is printed open.
(function () {
  "use strict";

  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.prototype.slice.call(document.querySelectorAll(".bd-article details:not([open])"));
    opened.forEach(function (box) {
      box.dataset.group = box.getAttribute("name") || "";
      box.removeAttribute("name");  // boxes of one name close each other
      box.open = true;
    });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (box) {
      box.open = false;
      if (box.dataset.group) {
        box.setAttribute("name", box.dataset.group);
      }
    });
  });
})();
