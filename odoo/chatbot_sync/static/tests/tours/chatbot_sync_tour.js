import { registry } from "@web/core/registry";
import { stepUtils } from "@web_tour/tour_utils";

// Creates a chatbot and a document, and asks a question that is answered.
registry.category("web_tour.tours").add("chatbot_sync_tour", {
    steps: () => [
        stepUtils.showAppsMenuItem(),
        {
            trigger: ".o_app[data-menu-xmlid='chatbot_sync.menu_chatbot_root']",
            run: "click",
        },
        { trigger: ".o-kanban-button-new", run: "click" },
        { trigger: ".o_field_widget[name=name] input, .o_field_widget[name=name] textarea", run: "edit Tour chatbot" },
        { trigger: ".o_form_button_save", run: "click" },
        { trigger: ".o_form_saved" },
        { trigger: ".o_field_x2many_list_row_add a", run: "click" },
        { trigger: ".modal .o_field_widget[name=name] input", run: "edit Opening hours" },
        { trigger: ".modal .o_field_widget[name=content] textarea", run: "edit Our office is open from nine to five." },
        { trigger: ".modal .o_form_button_save", run: "click" },
        { trigger: ".o_form_button_save:enabled", run: "click" },
        { trigger: ".o_data_row .text-bg-success:contains(Synced)" },
        { trigger: "button[name=action_ask]", run: "click" },
        { trigger: ".modal .o_field_widget[name=question] input", run: "edit When is the office open?" },
        { trigger: ".modal button[name=action_ask]", run: "click" },
        { trigger: ".modal mark:contains(office)" },
        { trigger: ".modal a[href^='/odoo/chatbot.document/']:contains(Opening hours)" },
        { trigger: ".modal button[name=action_close]", run: "click" },
        { trigger: "body:not(:has(.modal))" },
    ],
});
