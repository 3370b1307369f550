"""The page, its reports, and who its user is to the gateway."""

import logging
from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LogoutView
from django.db import transaction
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseForbidden,
    JsonResponse,
)
from django.shortcuts import redirect, render
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from examples.django_reports.models import Report
from hubbub_client import HubbubError
from hubbub_client.django import the_hubbub

log = logging.getLogger(__name__)

COME_BACK, STAY_AWAY = 4000, 4501
"""What the codes mean to an SDK."""


@login_required
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "page.html", {"gateway_port": settings.GATEWAY_PORT})


def sdk(_request: HttpRequest) -> FileResponse:
    return FileResponse(settings.SDK.open("rb"), content_type="text/javascript")


def sign_up(request: HttpRequest) -> HttpResponse:
    form: UserCreationForm[User] = UserCreationForm(request.POST or None)
    if form.is_valid():
        login(request, form.save())
        return redirect("/")
    return render(request, "registration/sign_up.html", {"form": form})


class SignOut(LogoutView):
    """Their pages come back and are asked about again: those of other sessions may stay."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        user_id = request.user.pk
        response = super().post(request, *args, **kwargs)  # from here on the session is none
        try:
            if user_id is not None:
                the_hubbub().disconnect(user_id, code=COME_BACK, reason="signed out")
        except HubbubError as error:
            log.error("the pages of %s stay connected: %s", user_id, error)
        return response


@login_required
def reports(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        with transaction.atomic():
            asked = Report.objects.create(user=request.user, title=request.POST["title"])
            asked.tell()
        return JsonResponse({}, status=201)
    listed = Report.objects.filter(user=request.user).order_by("pk")
    return JsonResponse([report.as_event().model_dump() for report in listed], safe=False)


@csrf_exempt  # it is no page that asks, and it shows a secret
@require_POST
def connect(request: HttpRequest) -> HttpResponseBase:
    """Tell the gateway whose session the cookie of a page is."""
    secret = request.headers.get("X-Realtime-Secret", "")
    if not constant_time_compare(secret, settings.REALTIME_SECRET):
        return HttpResponseForbidden()
    if not request.user.is_authenticated:
        return JsonResponse({"disconnect": {"code": STAY_AWAY, "reason": "signed out"}})
    until = int(request.session.get_expiry_date().timestamp())
    return JsonResponse({"result": {"user": str(request.user.pk), "expire_at": until}})
